"""Protocol version 5 on a WebSocket: JSON texts, the long ones in segments whose number goes before them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import msgspec

from libs.common.errors import BrokerUnavailable, PinstreamError
from services.gateway.sending import Sender

SEGMENT_CHARACTERS = 16384
MOST_COUNT_DIGITS = 6  # a text of so many digits or fewer counts segments
PIECES_A_SEGMENT = 8
MOST_SEGMENTS = 128  # of what a client sends
BROKEN_OFF = 1013
MOST_CHARACTERS = 1024 * 1024  # likewise


class BadFrame(PinstreamError):
    """That is no message of the protocol."""


class Inbox:
    """Puts together what a client sends."""

    def __init__(self) -> None:
        self._segments: list[str] = []
        self._wanted = 0
        self._characters = 0

    def take(self, text: str) -> dict[str, Any] | None:
        """The message that `text` completes, if it does. Raises BadFrame."""
        if not self._wanted:
            if len(text) <= MOST_COUNT_DIGITS and text.isascii() and text.isdigit():
                self._wanted = int(text)  # 0 keeps the connection alive
                if self._wanted > MOST_SEGMENTS:
                    raise BadFrame(f"more than {MOST_SEGMENTS} segments")
                return None
            return _message(text)
        self._segments.append(text)
        self._characters += len(text)
        if self._characters > MOST_CHARACTERS:
            raise BadFrame(f"more than {MOST_CHARACTERS} characters")
        if len(self._segments) < self._wanted:
            return None
        whole = "".join(self._segments)
        self._segments.clear()
        self._wanted = self._characters = 0
        return _message(whole)


def _message(text: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadFrame(f"not JSON: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("d"), dict) or found.get("t") not in ("c", "d"):
        raise BadFrame('neither {"t": "c", "d": {…}} nor {"t": "d", "d": {…}}')
    return found


class MessageSender(Sender):
    """Sends messages, one after the other."""

    async def data(self, body: dict[str, Any]) -> None:
        """A data message."""
        await self.send_message({"t": "d", "d": body})

    async def control(self, kind: str, body: Any) -> None:
        """A control message."""
        await self.send_message({"t": "c", "d": {"t": kind, "d": body}})

    async def send_message(self, message: dict[str, Any]) -> None:
        """In segments where it is long."""
        text = msgspec.json.encode(message).decode()
        if len(text) <= SEGMENT_CHARACTERS:
            await self.send_text(text)
            return
        segments = [text[at : at + SEGMENT_CHARACTERS] for at in range(0, len(text), SEGMENT_CHARACTERS)]
        async with self._turn:
            for segment in (str(len(segments)), *segments):
                await self._put(segment)

    async def send_pieces(
        self,
        before: str,
        pieces: AsyncGenerator[str, None],
        after: str,
        most_pieces: Callable[[], Awaitable[int]],
    ) -> None:
        """A message that is sent while it is made, so that it is never held as a whole.

        The number of segments has to be said first: it is reckoned from the most pieces that there may be, and blanks,
        which mean nothing in JSON, stand for those that are not needed.
        """
        held, characters, left = [before], 0, 0
        async with self._turn, aclosing(pieces):
            try:
                async for piece in pieces:
                    held.append(piece)
                    characters += len(piece)
                    if not left and characters > SEGMENT_CHARACTERS:
                        left = await most_pieces() // PIECES_A_SEGMENT + 2
                        await self._put(str(left))
                    if left > 1 and len(held) >= PIECES_A_SEGMENT:
                        await self._put("".join(held))
                        left -= 1
                        held.clear()
            except BrokerUnavailable:
                if left:  # what comes next would be taken for the rest of this
                    await self.close(BROKEN_OFF, "the broker cannot be reached; try again")
                raise
            while left > 1:
                await self._put(" ")
                left -= 1
            await self._put("".join((*held, after)))
