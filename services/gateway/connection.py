"""One client: its operations come in, the frames of the sessions that they name go out."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from libs.common.errors import BrokerUnavailable, PublishRefused, SessionUnknown
from libs.common.frames import (
    Accepted,
    CancelExtraction,
    CloseCode,
    ErrorCode,
    ErrorFrame,
    InitiateExtraction,
    Operation,
    Ping,
    Pong,
    ResumeExtraction,
)
from libs.common.tasks import end
from libs.common.telemetry import received
from services.gateway.callers import caller_of
from services.gateway.followed import Followed
from services.gateway.intake import Intake
from services.gateway.limits import Limited
from services.gateway.operations import InvalidOperation, parse_operation
from services.gateway.problems import COME_BACK_S, ELSEWHERE_S
from services.gateway.sending import Sender
from services.gateway.sessions import REFUSALS, Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.storage import Storage, trouble_of
from services.gateway.webhooks.target import receivers_of

log = structlog.get_logger()


class Connection:
    """Its operations, one after the other; `bears_trouble` as `Followed` has it."""

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
        self.draining = False
        self.limits = sessions.limits
        self.intake = Intake(settings)
        self.sender = Sender(websocket, settings.send_timeout_s)
        self.followed = Followed(self.sender, storage, bears_trouble=bears_trouble)

    async def serve(self) -> None:
        """Until the client leaves or is closed."""
        receiving = asyncio.create_task(self._receive(), name="receive")
        stuck = asyncio.create_task(self.sender.stuck.wait(), name="stuck")
        self.storage.listen(self.followed.storage_changed)
        if self.limits is not None:
            self.limits.census.listen(self.followed.queue_moved)
        try:
            await asyncio.wait({receiving, stuck}, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                receiving.result()
        finally:
            self.storage.leave(self.followed.storage_changed)
            if self.limits is not None:
                self.limits.census.leave(self.followed.queue_moved)
            await end(receiving, stuck)
            await self.followed.end()
        if self.sender.stuck.is_set():
            await self.sender.close(CloseCode.SLOW_CONSUMER, "too slow; resume after the last sequence")

    async def _receive(self) -> None:
        try:
            while True:
                message = await self.websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                await self._received(message)
                del message  # up to a megabyte, while nothing comes
        except (WebSocketDisconnect, WebSocketDisconnected) as error:
            log.debug("the client left", error=str(error))
        except RuntimeError:
            if not self.sender.closing:
                raise  # the server's word for a send after the close is RuntimeError

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
            operation = parse_operation(text, self.settings.site_url, receivers_of(self.settings))
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
        full = len(self.followed) >= self.settings.sessions_per_connection
        named = operation.parameters.session_id if isinstance(operation, ResumeExtraction) else ""
        if named in self.followed:
            full = self.followed.owed >= self.settings.sessions_per_connection
        if full and isinstance(operation, InitiateExtraction | ResumeExtraction):
            await self._refuse(operation, "too_many_sessions", "this connection follows too many sessions")
            return
        match operation:
            case Ping(id=id_):
                await self.sender.send(Pong(id=id_))
            case InitiateExtraction():
                await self._begin(operation)
            case CancelExtraction(parameters=cancelled, id=id_):
                followed = cancelled.session_id in self.followed  # whose end may come while it is being cancelled
                await self.sessions.cancel(cancelled.session_id, self.caller)
                if not followed:  # however many are: it is one frame
                    self._follow(cancelled.session_id, 0, id_, completed_only=True)
            case ResumeExtraction(parameters=resumed, id=id_):
                self._follow(resumed.session_id, resumed.after, id_)

    async def _begin(self, operation: InitiateExtraction) -> None:
        if self.draining:
            message = "this gateway is about to stop; ask again, at another one"
            await self._refuse(operation, ErrorCode.DRAINING, message, retry_after_s=ELSEWHERE_S)
            return
        if self.limits is not None:
            await self.limits.request(self.caller)
        opened_with = self.websocket.headers  # of one trace, and of however many searches
        with received("receive initiate_extraction", opened_with, trusted=False, refusals=REFUSALS) as span:
            begun = await self.sessions.begin(operation.parameters, caller=self.caller)
            span.set_attribute("pinstream.session", begun.session)
            await self.sender.send(
                Accepted(
                    id=operation.id,
                    session_id=begun.session,
                    sequence=begun.sequence,
                    webhook_secret=begun.webhook_secret,
                )
            )
        self._follow(begun.session, begun.sequence, operation.id)

    def _follow(self, session: str, after: int, id_: Any, *, completed_only: bool = False) -> None:
        following = self.sessions.follow(session, after, self.followed.turn, caller=self.caller)
        self.followed.start(following, id_, completed_only=completed_only)

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
