"""The WebSocket endpoint, protocol v1: operations come in, the frames of the sessions they name go out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
import structlog
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from starlette.websockets import WebSocket, WebSocketDisconnect

from libs.common import subjects
from libs.common.errors import BrokerUnavailable, PublishRefused, SequenceUnknown, SessionUnknown
from libs.common.frames import (
    SUBPROTOCOL,
    Accepted,
    AnyFrame,
    CancelExtraction,
    CloseCode,
    Completed,
    ErrorFrame,
    InitiateExtraction,
    Operation,
    Ping,
    Pong,
    ResumeExtraction,
    VideoFrame,
    encode_frame,
)
from libs.common.telemetry import extract, message_span
from services.gateway.operations import InvalidOperation, parse_operation
from services.gateway.sessions import Sessions
from services.gateway.settings import GatewaySettings

CLOSE_S = 20.0  # a close frame waits behind what the client has not read yet
COME_BACK_S = 5.0  # what a client is told to wait while the broker is away

log = structlog.get_logger()
tracer = trace.get_tracer("services.gateway")


class Connection:
    """One client: its operations, and a task for each session that it follows."""

    def __init__(self, websocket: WebSocket, sessions: Sessions, settings: GatewaySettings) -> None:
        self.websocket = websocket
        self.sessions = sessions
        self.settings = settings
        self._sending = asyncio.Lock()
        self._following: dict[str, asyncio.Task[None]] = {}
        self._stuck = asyncio.Event()
        self._closing = False

    async def serve(self) -> None:
        """Until the client leaves or is closed."""
        receiving = asyncio.create_task(self._receive(), name="receive")
        stuck = asyncio.create_task(self._stuck.wait(), name="stuck")
        try:
            await asyncio.wait({receiving, stuck}, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                receiving.result()
        finally:
            tasks = [receiving, stuck, *self._following.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._stuck.is_set():
            await self.close(CloseCode.SLOW_CONSUMER, "too slow; resume after the last sequence")

    async def close(self, code: int, reason: str) -> None:
        """Closes the connection; the client may come back and resume. One that reads nothing is dropped in the end."""
        if self._closing:
            return
        self._closing = True
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.websocket.close(code, reason)
        except (TimeoutError, WebSocketDisconnect, RuntimeError) as error:
            log.info("the client did not take the close", code=code, error=str(error))

    async def _receive(self) -> None:
        try:
            while True:
                message = await self.websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                await self._received(message)
        except (WebSocketDisconnect, RuntimeError) as error:
            if not self._closing and not isinstance(error, WebSocketDisconnect):
                raise  # Starlette's word for a send or receive after the close is RuntimeError

    async def _received(self, message: MutableMapping[str, Any]) -> None:
        text = message.get("text")
        if text is None:
            await self._send(
                ErrorFrame(code="invalid_request", field="message", message="send text frames, not binary")
            )
            return
        try:
            operation = parse_operation(text)
        except InvalidOperation as error:
            await self._send(ErrorFrame(id=error.id, code=error.code, field=error.field, message=str(error)))
            return
        try:
            await self._carry_out(operation)
        except SessionUnknown as error:
            await self._refuse(operation, "unknown_session", str(error), field="parameters.session_id")
        except (BrokerUnavailable, PublishRefused) as error:
            log.warning("operation refused: the broker cannot take it", error=str(error))
            await self._refuse(
                operation, "unavailable", "the service cannot take this now; try again", retry_after_s=COME_BACK_S
            )

    async def _carry_out(self, operation: Operation) -> None:
        full = len(self._following) >= self.settings.sessions_per_connection
        if full and isinstance(operation, InitiateExtraction | ResumeExtraction):
            await self._refuse(operation, "too_many_sessions", "this connection follows too many sessions")
            return
        match operation:
            case Ping(id=id_):
                await self._send(Pong(id=id_))
            case InitiateExtraction(parameters=wanted, id=id_):
                with tracer.start_as_current_span("receive initiate_extraction", kind=SpanKind.SERVER) as span:
                    begun = await self.sessions.begin(wanted.search_query, wanted.result_limit)
                    span.set_attribute("pinstream.session", begun.session)
                    await self._send(Accepted(id=id_, session_id=begun.session, sequence=begun.sequence))
                self._follow(begun.session, begun.sequence, id_)
            case CancelExtraction(parameters=named):
                await self.sessions.cancel(named.session_id)
                if named.session_id not in self._following and not full:
                    self._follow(named.session_id, 0, operation.id, completed_only=True)
            case ResumeExtraction(parameters=resumed, id=id_):
                previous = self._following.pop(resumed.session_id, None)
                if previous is not None:
                    previous.cancel()
                self._follow(resumed.session_id, resumed.after, id_)

    def _follow(self, session: str, after: int, id_: Any, *, completed_only: bool = False) -> None:
        task = asyncio.create_task(
            self._send_frames(session, after, id_, completed_only=completed_only), name=f"follow {session}"
        )
        self._following[session] = task

        def ended(done: asyncio.Task[None]) -> None:
            if self._following.get(session) is done:
                del self._following[session]

        task.add_done_callback(ended)

    async def _send_frames(self, session: str, after: int, id_: Any, *, completed_only: bool) -> None:
        structlog.contextvars.bind_contextvars(session=session)
        try:
            async with aclosing(self.sessions.follow(session, after)) as steps:
                async for frame, headers in steps:
                    if completed_only and not isinstance(frame, Completed):
                        continue
                    async with _sent(frame, headers):
                        await self._send(frame if id_ is None else msgspec.structs.replace(frame, id=id_))
        except (SessionUnknown, SequenceUnknown) as error:
            known = isinstance(error, SequenceUnknown)
            await self._send(
                ErrorFrame(
                    id=id_,
                    session_id=session,
                    code="unknown_sequence" if known else "unknown_session",
                    field="parameters.after" if known else "parameters.session_id",
                    message=str(error),
                )
            )
        except BrokerUnavailable as error:
            log.warning("cannot follow a session now", error=str(error))
            await self.close(CloseCode.DRAINING, "try again and resume")
        except (WebSocketDisconnect, RuntimeError) as error:
            log.debug("the client left", error=str(error))
        except Exception:
            log.exception("following a session failed")
            await self.close(CloseCode.INTERNAL_ERROR, "internal error; resume after the last sequence")

    async def _refuse(
        self,
        operation: Operation,
        code: str,
        message: str,
        field: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        session = None if isinstance(operation, InitiateExtraction | Ping) else operation.parameters.session_id
        await self._send(
            ErrorFrame(
                id=operation.id,
                session_id=session,
                code=code,
                field=field,
                message=message,
                retry_after_s=retry_after_s,
            )
        )

    async def _send(self, frame: AnyFrame) -> None:
        """Sends a frame; a client that does not take it in time gets no more of them and is closed with 4008."""
        try:
            async with asyncio.timeout(self.settings.send_timeout_s), self._sending:
                await self.websocket.send_text(encode_frame(frame))
        except TimeoutError:
            log.warning("client too slow", timeout_s=self.settings.send_timeout_s)
            self._stuck.set()


@asynccontextmanager
async def _sent(frame: AnyFrame, headers: dict[str, str]) -> AsyncIterator[None]:
    """A span around the sending of a frame, where the record that it comes from is recorded in the trace."""
    context = extract(headers)
    sampled = trace.get_current_span(context).get_span_context().trace_flags.sampled
    if not sampled or not isinstance(frame, VideoFrame | Completed):
        yield
        return
    kind = "video" if isinstance(frame, VideoFrame) else "completed"
    with (
        message_span("receive", subjects.RECORD_TEMPLATE, SpanKind.CONSUMER, context),
        tracer.start_as_current_span(f"send frame {kind}", kind=SpanKind.SERVER),
    ):
        yield


class WebSocketEndpoint:
    """Accepts connections, and can close them all."""

    def __init__(self, sessions: Sessions, settings: GatewaySettings) -> None:
        self.sessions = sessions
        self.settings = settings
        self.connections: set[Connection] = set()

    async def __call__(self, websocket: WebSocket) -> None:
        """One client. Refuses a subprotocol that it does not know."""
        offered = websocket.scope.get("subprotocols") or []
        if offered and SUBPROTOCOL not in offered:
            await websocket.close()
            return
        await websocket.accept(subprotocol=SUBPROTOCOL if offered else None)
        connection = Connection(websocket, self.sessions, self.settings)
        self.connections.add(connection)
        try:
            await connection.serve()
        finally:
            self.connections.discard(connection)

    async def drain(self) -> None:
        """Tells every client to go on at another gateway."""
        closing = [
            connection.close(CloseCode.DRAINING, "draining; resume elsewhere") for connection in self.connections
        ]
        await asyncio.gather(*closing, return_exceptions=True)
