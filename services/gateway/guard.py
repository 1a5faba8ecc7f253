"""The guard of one connection: it ends when what its client came with is no longer good, whatever it is doing."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common import metrics
from libs.common.frames import CloseCode
from services.gateway.refusals import refuse
from services.gateway.server import ABORT

GONE_S = 1.0  # until a connection that was dropped is known to be

log = structlog.get_logger()


class Guard:
    """What serves the connection hears that its client has left.

    A WebSocket is closed with 4501. A request that has no answer yet is answered by 401, and one whose answer is under
    way is dropped. `notice_s` is given to who tells its client itself, in its own protocol.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, notice_s: float = 0.0) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._notice_s = notice_s
        self._over = asyncio.Event()
        self._why = ""
        self._begun = self._closed = False  # the socket is accepted, the answer begun; closed, all of it sent
        self._serving: asyncio.Task[object] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def end(self, why: str) -> None:
        """Of the connection, after the notice."""
        if self._notice_s:
            asyncio.get_running_loop().call_later(self._notice_s, self._end, why)
        else:
            self._end(why)

    async def serve(self, app: ASGIApp) -> None:
        """Until `app` has served the connection, or is cut off."""
        self._serving = serving = asyncio.current_task()
        try:
            if not self._over.is_set():
                await app(self._scope, self.receive, self.send)
        except asyncio.CancelledError:
            if not self._over.is_set() or serving is None:
                raise
            serving.uncancel()
        finally:
            self._serving = None
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._over.is_set() and self._scope["type"] == "http":
            await self._dismiss()

    def _end(self, why: str) -> None:
        if self._over.is_set():
            return
        self._why = why
        self._over.set()
        if self._scope["type"] == "http":
            if self._serving is not None:
                self._serving.cancel()
        elif self._begun and not self._closed:
            task = asyncio.create_task(self._close(), name="close")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _dismiss(self) -> None:
        """Ends a request that was cut off."""
        if self._closed:
            return
        if not self._begun:
            await refuse(self._scope, self._receive, self._send, 401, None, "unauthorized", self._why)
            return
        if (abort := self._scope.get("extensions", {}).get(ABORT)) is not None:
            abort()
            with suppress(TimeoutError):
                async with asyncio.timeout(GONE_S):
                    while (await self._receive())["type"] != "http.disconnect":
                        pass

    async def _close(self) -> None:
        self._closed = True
        metrics.gateway_closes.add(1, {"code": str(CloseCode.TOKEN_REFUSED)})
        try:
            await self._send({"type": "websocket.close", "code": CloseCode.TOKEN_REFUSED, "reason": self._why})
        except (OSError, RuntimeError) as error:
            log.debug("the client has left", error=str(error))

    async def receive(self) -> Message:
        """As ASGI has it."""
        kind = self._scope["type"]
        message = None if self._over.is_set() else await self._receive()  # a close of ours wakes a WebSocket's
        if kind == "http":
            return message or {"type": "http.disconnect"}
        if message is not None and not self._over.is_set():
            return message
        return {"type": "websocket.disconnect", "code": CloseCode.TOKEN_REFUSED, "reason": self._why}

    async def send(self, message: Message) -> None:
        """As ASGI has it; raises OSError, ASGI's word for a client that has left, when it is over."""
        if self._over.is_set() and (self._closed or self._scope["type"] == "http"):
            raise OSError(self._why)
        kind = message["type"]
        if kind == "websocket.close":
            self._closed = True
        elif kind == "http.response.start":
            self._begun = True
        await self._send(message)
        if kind == "http.response.body" and not message.get("more_body", False):
            self._closed = True
        elif kind == "websocket.accept":
            self._begun = True
            if self._over.is_set() and not self._closed:
                await self._close()
