"""Protocol version 5 on a WebSocket: JSON texts, the long ones in segments whose number goes before them."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import msgspec

from libs.common.errors import BrokerUnavailable, PinstreamError
from services.gateway.intake import bytes_of
from services.gateway.sending import Sender

SEGMENT_CHARACTERS = 16384
MOST_COUNT_DIGITS = 6  # a text of so many digits or fewer counts segments
PIECES_A_SEGMENT = 8
MOST_SEGMENTS = 256  # of what a client sends
MOST_BYTES = 4 * 1024 * 1024  # likewise, also of what is refused; of a single text the server sees to it
BROKEN_OFF = 1013
NUMBER = re.compile(r'\{"t": ?"d", ?"d": ?\{"r": ?(\d{1,15})[,}]')  # begins a request, as the SDK for JavaScript has it


class BadFrame(PinstreamError):
    """That is no message of the protocol."""


class TooLong(PinstreamError):
    """A message has too many bytes, and is not read; `number` is that of its request."""

    def __init__(self, number: int, most_bytes: int) -> None:
        super().__init__(f"a message has at most {most_bytes} bytes")
        self.number = number


class Inbox:
    """Puts together what a client sends, of at most `most_bytes`."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._segments: list[str] = []
        self._wanted = self._bytes = 0
        self._too_long: int | None = None  # the number of the message under way, where it is

    @property
    def amid(self) -> bool:
        """Whether segments of a message are yet to come."""
        return self._wanted > 0

    def take(self, text: str) -> dict[str, Any] | None:
        """The message that `text` completes, if it does. Raises BadFrame, or TooLong where one that is has ended."""
        if not self._wanted:
            if len(text) <= MOST_COUNT_DIGITS and text.isascii() and text.isdigit():
                self._wanted = int(text)  # 0 keeps the connection alive
                if self._wanted > MOST_SEGMENTS:
                    raise BadFrame(f"more than {MOST_SEGMENTS} segments")
                return None
            self._wanted = 1
        self._wanted -= 1
        self._hold(text)
        if self._wanted:
            return None
        whole, number = "".join(self._segments), self._too_long
        self._segments.clear()
        self._bytes, self._too_long = 0, None
        if number is not None:
            # raised where it is made: one that a local names keeps its frame, and the text, until garbage is collected
            raise TooLong(number, self._most)
        return _message(whole)

    def _hold(self, text: str) -> None:
        self._bytes += bytes_of(text)
        if self._bytes <= self._most:
            self._segments.append(text)
            return
        if self._bytes > MOST_BYTES:
            raise BadFrame(f"more than {MOST_BYTES} bytes")
        if self._too_long is None:
            named = NUMBER.match((*self._segments, text)[0])
            if named is None:  # nobody would know what is refused
                raise BadFrame(f"more than {self._most} bytes")
            self._too_long = int(named[1])
            self._segments.clear()


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
