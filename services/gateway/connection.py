"""One client: its operations come in, the frames of the sessions that they name go out."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, MutableMapping
from contextlib import aclosing
from typing import Any

import msgspec
import structlog
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from starlette.websockets import WebSocket, WebSocketDisconnect

from libs.common.errors import BrokerUnavailable, PublishRefused, SequenceUnknown, SessionUnknown
from libs.common.frames import (
    Accepted,
    CancelExtraction,
    CloseCode,
    Completed,
    ErrorCode,
    ErrorFrame,
    InitiateExtraction,
    Operation,
    Ping,
    Pong,
    ResumeExtraction,
)
from services.gateway.callers import caller_of
from services.gateway.filters import filters_of
from services.gateway.following import Following, SessionExpired
from services.gateway.intake import Intake
from services.gateway.limits import Limited
from services.gateway.operations import InvalidOperation, parse_operation
from services.gateway.problems import COME_BACK_S, ELSEWHERE_S
from services.gateway.sending import Sender, delivered
from services.gateway.sessions import Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.storage import Storage, trouble_of

log = structlog.get_logger()
tracer = trace.get_tracer("services.gateway")


class Connection:
    """Its operations one after the other, and a task for each session that it follows.

    `bears_trouble` says whether the client knows that an `error` can be about a session that goes on.
    """

    def __init__(
        self,
        websocket: WebSocket,
        sessions: Sessions,
        storage: Storage,
        settings: GatewaySettings,
        *,
        bears_trouble: bool = True,
    ) -> None:
        self.websocket = websocket
        self.sessions, self.storage = sessions, storage
        self.settings = settings
        self.caller = caller_of(websocket.scope)
        self.bears_trouble = bears_trouble
        self.draining = False
        self.limits = sessions.limits
        self.intake = Intake(settings)
        self.sender = Sender(websocket, settings.send_timeout_s)
        self._turn = asyncio.Lock()  # one of its sessions at a time is read from the log
        self._following: dict[str, tuple[Following, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Until the client leaves or is closed."""
        receiving = asyncio.create_task(self._receive(), name="receive")
        stuck = asyncio.create_task(self.sender.stuck.wait(), name="stuck")
        self.storage.listen(self._storage_changed)
        if self.limits is not None:
            self.limits.census.listen(self._queue_moved)
        try:
            await asyncio.wait({receiving, stuck}, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                receiving.result()
        finally:
            self.storage.leave(self._storage_changed)
            if self.limits is not None:
                self.limits.census.leave(self._queue_moved)
            tasks = [receiving, stuck, *self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self.sender.stuck.is_set():
            await self.sender.close(CloseCode.SLOW_CONSUMER, "too slow; resume after the last sequence")

    async def _receive(self) -> None:
        try:
            while True:
                message = await self.websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                await self._received(message)
        except (WebSocketDisconnect, RuntimeError) as error:
            if not self.sender.closing and not isinstance(error, WebSocketDisconnect):
                raise  # Starlette's word for a send or receive after the close is RuntimeError

    async def _received(self, message: MutableMapping[str, Any]) -> None:
        refused = self.intake.refusal(message)
        if self.intake.worn_out:
            await self.sender.close(CloseCode.RATE_LIMITED, "too many messages; come back slower")
            return
        if refused is not None:
            await self.sender.send(refused)
            return
        text = message["text"]
        try:
            operation = parse_operation(text, self.settings.site_url)
        except InvalidOperation as error:
            refusal = ErrorFrame(id=error.id, code=error.code, field=error.field, message=str(error))
            await self.sender.send(refusal)
            return
        try:
            await self._carry_out(operation)
        except Limited as error:
            await self._refuse(operation, error.code, str(error), retry_after_s=error.retry_after_s)
        except SessionUnknown as error:
            await self._refuse(operation, ErrorCode.UNKNOWN_SESSION, str(error), field="parameters.session_id")
        except (BrokerUnavailable, PublishRefused) as error:
            log.warning("operation refused: the broker cannot take it", error=str(error))
            connected = self.sessions.session_log.bus.connected
            why = self.storage.trouble or trouble_of(error, connected=connected)
            await self._refuse(operation, ErrorCode.UNAVAILABLE, f"{why}; try again", retry_after_s=COME_BACK_S)

    async def _carry_out(self, operation: Operation) -> None:
        full = len(self._following) >= self.settings.sessions_per_connection
        named = operation.parameters.session_id if isinstance(operation, ResumeExtraction) else None
        if full and isinstance(operation, InitiateExtraction | ResumeExtraction) and named not in self._following:
            await self._refuse(operation, "too_many_sessions", "this connection follows too many sessions")
            return
        match operation:
            case Ping(id=id_):
                await self.sender.send(Pong(id=id_))
            case InitiateExtraction() if self.draining:
                message = "this gateway is about to stop; ask again, at another one"
                await self._refuse(operation, ErrorCode.DRAINING, message, retry_after_s=ELSEWHERE_S)
            case InitiateExtraction(parameters=wanted, id=id_):
                if self.limits is not None:
                    await self.limits.request(self.caller)
                with tracer.start_as_current_span("receive initiate_extraction", kind=SpanKind.SERVER) as span:
                    begun = await self.sessions.begin(
                        wanted.search_query or "",
                        wanted.result_limit,
                        url=wanted.url,
                        filters=filters_of(wanted.filters),
                        scope=wanted.scope,
                        caller=self.caller,
                    )
                    span.set_attribute("pinstream.session", begun.session)
                    await self.sender.send(Accepted(id=id_, session_id=begun.session, sequence=begun.sequence))
                self._follow(begun.session, begun.sequence, id_)
            case CancelExtraction(parameters=cancelled):
                followed = cancelled.session_id in self._following  # whose end may come while it is being cancelled
                await self.sessions.cancel(cancelled.session_id, self.caller)
                if not followed and not full:
                    self._follow(cancelled.session_id, 0, operation.id, completed_only=True)
            case ResumeExtraction(parameters=resumed, id=id_):
                if resumed.session_id in self._following:
                    _, previous = self._following.pop(resumed.session_id)
                    previous.cancel()
                self._follow(resumed.session_id, resumed.after, id_)

    def _follow(self, session: str, after: int, id_: Any, *, completed_only: bool = False) -> None:
        following = self.sessions.follow(session, after, self._turn, caller=self.caller)
        sending = self._send_frames(following, id_, completed_only=completed_only)
        task = self._start(sending, f"follow {session}")
        self._following[session] = following, task
        task.add_done_callback(lambda _: self._forget(following))

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _forget(self, following: Following) -> None:
        followed = self._following.get(following.session)
        if followed is not None and followed[0] is following:
            del self._following[following.session]

    async def _send_frames(self, following: Following, id_: Any, *, completed_only: bool) -> None:
        session = following.session
        structlog.contextvars.bind_contextvars(session=session)
        try:
            if self.storage.trouble is not None and not completed_only:
                await self._tell_trouble(following, self.storage.trouble)
            async with aclosing(following.steps()) as steps:
                async for step in steps:
                    frame = step.frame
                    if completed_only and not isinstance(frame, Completed):
                        continue
                    if isinstance(frame, Completed):
                        self._forget(following)  # a cancel that comes now is answered by itself
                    async with delivered(step, "websocket"):
                        await self.sender.send(frame if id_ is None else msgspec.structs.replace(frame, id=id_))
        except (SessionUnknown, SessionExpired, SequenceUnknown) as error:
            code, field = {
                SessionUnknown: (ErrorCode.UNKNOWN_SESSION, "parameters.session_id"),
                SessionExpired: (ErrorCode.EXPIRED, "parameters.after"),
                SequenceUnknown: (ErrorCode.UNKNOWN_SEQUENCE, "parameters.after"),
            }[type(error)]
            await self.sender.send(ErrorFrame(id=id_, session_id=session, code=code, field=field, message=str(error)))
        except (WebSocketDisconnect, RuntimeError) as error:
            log.debug("the client left", error=str(error))
        except Exception:
            log.exception("following a session failed")
            await self.sender.close(CloseCode.INTERNAL_ERROR, "internal error; resume after the last sequence")

    def _queue_moved(self) -> None:
        moved = [following for following, _ in self._following.values() if following.queue_moved]
        if moved:
            self._start(self._tell_queued(moved), "tell of the queue")

    async def _tell_queued(self, moved: list[Following]) -> None:
        try:
            for following in moved:
                await self.sender.send(following.progress)
        except (WebSocketDisconnect, RuntimeError) as error:
            log.debug("the client left", error=str(error))

    def _storage_changed(self, trouble: str | None) -> None:
        self._start(self._tell_all(trouble), "tell of the storage")

    async def _tell_all(self, trouble: str | None) -> None:
        try:
            for following, _ in list(self._following.values()):
                if trouble is not None:
                    await self._tell_trouble(following, trouble)
                elif not following.state.complete:
                    await self.sender.send(following.progress)
        except (WebSocketDisconnect, RuntimeError) as error:
            log.debug("the client left", error=str(error))

    async def _tell_trouble(self, following: Following, trouble: str) -> None:
        """In a word that every client bears, and as an error to those that know that it ends nothing."""
        waiting = msgspec.structs.replace(following.progress, state="waiting", waiting_for=trouble, waiting_until=None)
        await self.sender.send(waiting)
        if self.bears_trouble:
            message = f"{trouble}; the session goes on when it can"
            await self.sender.send(
                ErrorFrame(
                    session_id=following.session,
                    code=ErrorCode.UNAVAILABLE,
                    message=message,
                    retry_after_s=COME_BACK_S,
                )
            )

    async def _refuse(
        self,
        operation: Operation,
        code: str,
        message: str,
        field: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        session = None if isinstance(operation, InitiateExtraction | Ping) else operation.parameters.session_id
        await self.sender.send(
            ErrorFrame(
                id=operation.id,
                session_id=session,
                code=code,
                field=field,
                message=message,
                retry_after_s=retry_after_s,
            )
        )
