"""A WebSocket client that does what no library would: every byte is the test's."""

from __future__ import annotations

import asyncio
import struct
from types import TracebackType
from typing import NamedTuple, Self

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x01\x02\x03\x04"
ANSWER_S = 20.0


def handshake(address: str, path: str = "/ws") -> bytes:
    """The opening request."""
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {address}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    )
    return "\r\n".join((*lines, "", "")).encode()


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    masked: bool = True,
    rsv: int = 0,
    claimed: int | None = None,
) -> bytes:
    """A frame; `claimed` is the size that it says it has, where that is not so."""
    size = len(payload) if claimed is None else claimed
    mask_bit = 0x80 if masked else 0
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if size < 126:
        head = struct.pack("!BB", first, mask_bit | size)
    elif size < 2**16:
        head = struct.pack("!BBH", first, mask_bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, mask_bit | 127, size)
    if not masked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[n % 4] for n, byte in enumerate(payload))


class Frame(NamedTuple):
    """Of the server."""

    opcode: int
    payload: bytes


class RawSocket:
    """`async with RawSocket("127.0.0.1:8080") as raw`, which is connected and has sent nothing."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def __aenter__(self) -> Self:
        host, port = self.address.split(":")
        self.reader, self.writer = await asyncio.open_connection(host, int(port))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.transport.abort()

    async def upgrade(self) -> None:
        """The opening handshake."""
        self.writer.write(handshake(self.address))
        async with asyncio.timeout(ANSWER_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head

    async def receive(self) -> Frame:
        """The next frame. Raises OSError or EOFError where the connection has ended."""
        async with asyncio.timeout(ANSWER_S):
            first, size = await self.reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2))
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8))
            return Frame(first & 15, await self.reader.readexactly(size))

    async def end(self) -> int:
        """The code of the close, 1006 where there is none; what comes before it is passed over."""
        try:
            while True:
                opcode, payload = await self.receive()
                if opcode == CLOSE:
                    return int.from_bytes(payload[:2])
        except (OSError, EOFError):
            return 1006

    async def dropped(self, within_s: float = ANSWER_S) -> None:
        """Returns when nothing more comes; fails where that takes longer."""
        async with asyncio.timeout(within_s):
            try:
                await self.reader.read()
            except OSError:
                return
