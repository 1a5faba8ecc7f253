"""The gate: before anything else it is found out who asks; whose key is revoked or expires is cut off in mid-course."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

import structlog
from msgspec.structs import replace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common.errors import BrokerUnavailable, PublishRefused
from libs.common.frames import CloseCode
from services.gateway.access import NEEDED, Access
from services.gateway.callers import SCOPE_KEY, Caller, TokenRefused
from services.gateway.door import PLACE_KEY
from services.gateway.limits import Limited, Limits
from services.gateway.refusals import is_open, refuse

LONGEST_S = 86400.0  # of one timer

log = structlog.get_logger()


class Guard:
    """One connection, which can be ended from outside: then it hears that its client has left, whatever it does."""

    def __init__(self, access: Access, scope: Scope, receive: Receive, send: Send) -> None:
        self._access = access
        self._scope, self._receive, self._send = scope, receive, send
        self._over = asyncio.Event()
        self._why = ""
        self._accepted = self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def holds(self, caller: Caller) -> Iterator[None]:
        """Ends the connection when `caller` may no longer be here, as long as the context lasts."""
        self._scope[SCOPE_KEY] = replace(caller, place=self._scope.get(PLACE_KEY, ""))
        timer = None
        if caller.until is not None:
            left_s = min(max(0.0, caller.until - time.time()), LONGEST_S)
            timer = asyncio.get_running_loop().call_later(left_s, self._end, "the token has expired")
        try:
            if caller.key is None:
                yield
            else:
                with self._access.keyring.held(caller.key, lambda: self._end("the key was revoked, or has expired")):
                    yield
        finally:
            if timer is not None:
                timer.cancel()

    def _end(self, why: str) -> None:
        if self._over.is_set():
            return
        self._why = why
        self._over.set()
        if self._scope["type"] == "websocket" and self._accepted and not self._closed:
            task = asyncio.create_task(self._close(), name="close")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _close(self) -> None:
        self._closed = True
        try:
            await self._send({"type": "websocket.close", "code": CloseCode.TOKEN_REFUSED, "reason": self._why})
        except (OSError, RuntimeError) as error:
            log.debug("the client has left", error=str(error))

    async def settle(self) -> None:
        """Returns when nothing of it is under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def receive(self) -> Message:
        """As ASGI has it."""
        if not self._over.is_set():
            message = await self._first(self._receive())
            if message is not None:
                return message
        if self._scope["type"] == "websocket":
            return {"type": "websocket.disconnect", "code": CloseCode.TOKEN_REFUSED, "reason": self._why}
        return {"type": "http.disconnect"}

    async def _first(self, coming: Awaitable[Message]) -> Message | None:
        receiving = asyncio.ensure_future(coming)
        over = asyncio.create_task(self._over.wait(), name="guard")
        try:
            await asyncio.wait({receiving, over}, return_when=asyncio.FIRST_COMPLETED)
            return None if self._over.is_set() or not receiving.done() else receiving.result()
        finally:
            receiving.cancel()
            over.cancel()
            await asyncio.gather(receiving, over, return_exceptions=True)

    async def send(self, message: Message) -> None:
        """As ASGI has it; raises OSError, ASGI's word for a client that has left, when it is over."""
        if self._over.is_set() and (self._closed or self._scope["type"] == "http"):
            raise OSError(self._why)
        if message["type"] == "websocket.close":
            self._closed = True
        await self._send(message)
        if message["type"] == "websocket.accept":
            self._accepted = True
            if self._over.is_set() and not self._closed:
                await self._close()


class Gate:
    """ASGI middleware. `late` are beginnings of paths whose clients may give their token after they have connected:
    they come in as callers that are not admitted, and what serves them asks `Access` whose the token is."""

    def __init__(self, app: ASGIApp, access: Access, limits: Limits | None = None, late: tuple[str, ...] = ()) -> None:
        self.app, self.access, self.limits, self.late = app, access, limits, late

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] not in ("http", "websocket") or is_open(scope):
            await self.app(scope, receive, send)
            return
        try:
            caller = await self.access.caller(scope)
            if not caller.admitted and not scope["path"].startswith(self.late or ("\0",)):
                raise TokenRefused(NEEDED)
        except TokenRefused as error:
            await refuse(scope, receive, send, 401, CloseCode.TOKEN_REFUSED, "unauthorized", str(error))
            return
        except (BrokerUnavailable, PublishRefused):
            await refuse(scope, receive, send, 503, None, "unavailable", "tickets cannot be checked now; try again")
            return
        if scope["type"] == "http" and self.limits is not None:
            try:
                await self.limits.request(caller)
            except Limited as error:
                await refuse(scope, receive, send, 429, None, error.code, str(error), error.retry_after_s)
                return
        guard = Guard(self.access, scope, receive, send)
        with guard.holds(caller):
            try:
                await self.app(scope, guard.receive, guard.send)
            finally:
                await guard.settle()
