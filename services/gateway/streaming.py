"""An answer that is sent piece by piece, to a client that takes each in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from libs.common.errors import PinstreamError
from libs.common.tasks import end
from services.gateway.server import ABORT

PIECE_BYTES = 64 * 1024

log = structlog.get_logger()


class Streamed(Response):
    """The next piece is made when there is room for it; past `timeout_s` without, the connection is dropped.

    It is dropped too where the pieces fail, for its client would take what came for the whole.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        media_type: str,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.pieces = pieces
        self.timeout_s = timeout_s
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers({"Cache-Control": "no-store", **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        sending = asyncio.create_task(self._send(scope, send), name="send pieces")
        leaving = asyncio.create_task(left(receive), name="client leaves")
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(leaving, sending)
            await self.pieces.aclose()  # where they were never begun
        if sending.done() and not sending.cancelled() and (error := sending.exception()) is not None:
            if not isinstance(error, TimeoutError | PinstreamError):
                log.exception("an answer broke off", exc_info=error)
            elif isinstance(error, TimeoutError):
                log.warning("client too slow", timeout_s=self.timeout_s)
            else:
                log.warning("an answer broke off", error=str(error))
            _abort(scope)

    async def _send(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for piece in self.pieces if scope["method"] != "HEAD" else _nothing():
                async with asyncio.timeout(self.timeout_s):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            await self.pieces.aclose()  # in the task that ran them, whose context they may hold
        async with asyncio.timeout(self.timeout_s):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def begun_with(first: bytes, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Pieces of which the first has been taken."""
    async with aclosing(pieces):
        if first:
            yield first
        async for piece in pieces:
            yield piece


async def sliced(body: bytes) -> AsyncGenerator[bytes, None]:
    """A whole, in pieces."""
    for at in range(0, len(body), PIECE_BYTES):
        yield body[at : at + PIECE_BYTES]


async def _nothing() -> AsyncGenerator[bytes, None]:
    return
    yield b""


async def left(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _abort(scope: Scope) -> None:
    """At once, with what has not been read: a connection that is closed waits for its client to read it."""
    abort = scope.get("extensions", {}).get(ABORT)
    if abort is not None:
        abort()
