"""The door: before it is asked who somebody is, how many there are from the same address, and how fast they come."""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common.frames import CloseCode
from services.gateway.crowd import Crowd
from services.gateway.limits import Limited, Limits
from services.gateway.places import Places
from services.gateway.refusals import is_open, refuse

PLACE_KEY = "pinstream.place"


class _TooLong(Exception):
    """The body of a request goes on past the limit."""


class Door:
    """ASGI middleware: 429, or an `error` frame and the close 4029, to those who are too many."""

    def __init__(self, app: ASGIApp, limits: Limits, crowd: Crowd, places: Places) -> None:
        self.app, self.limits, self.crowd, self.places = app, limits, crowd, places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] not in ("http", "websocket") or is_open(scope):
            await self.app(scope, receive, send)
            return
        client = scope.get("client")
        place = self.places.name(client[0] if client else None)
        scope[PLACE_KEY] = place
        try:
            await self.limits.address(place)
            with self.crowd.joined(place):
                await self._within_size(scope, receive, send)
        except Limited as error:
            await refuse(scope, receive, send, 429, CloseCode.RATE_LIMITED, error.code, str(error), error.retry_after_s)

    async def _within_size(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most, started = self.limits.settings.message_max_bytes, False
        read = 0

        async def received() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise _TooLong
            return message

        async def sent(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        told = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        try:
            if told.isdigit() and int(told) > most:
                raise _TooLong
            await self.app(scope, received, sent)
        except _TooLong:
            if not started:
                message = f"the body of a request has at most {most} bytes"
                await refuse(scope, receive, send, 413, None, "too_large", message, field="body")
