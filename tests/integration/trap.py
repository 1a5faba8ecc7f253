"""A listener on a port of its own that records whoever comes: what nothing of the browser may reach."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Trap:
    """Listens on `port` of loopback by TCP (IPv6 too where there is one) and UDP; `caught` holds the first bytes."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.caught: list[bytes] = []

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = len(self.caught)
        self.caught.append(b"tcp")
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                self.caught[place] = b"tcp " + (await reader.readline())
        writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, trap: Trap) -> None:
        self._trap = trap

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._trap.caught.append(b"udp " + data)


@asynccontextmanager
async def trap() -> AsyncIterator[Trap]:
    """A trap that is set."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        set_ = Trap(listener.getsockname()[1])
        servers = [await asyncio.start_server(set_._accept, sock=listener)]
        with suppress(OSError):  # no IPv6 here
            servers.append(await asyncio.start_server(set_._accept, "::1", set_.port))
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(set_), local_addr=("127.0.0.1", set_.port)
        )
        try:
            yield set_
        finally:
            transport.close()
            for server in servers:
                server.close()
