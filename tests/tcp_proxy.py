"""A TCP proxy in front of a broker: a network that can be cut, black-holed, slowed and mended."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Self

CHUNK_BYTES = 64 * 1024
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST and throws away what was not sent
CONNECT_S = 2.0

Address = tuple[str, int]


class TcpProxy:
    """`async with TcpProxy(("127.0.0.1", 4222)) as proxy`; what is behind it gets `proxy.url`.

    Each new connection goes to one of the targets that takes it, in random order. Servers behind it must not advertise
    their own addresses (`no_advertise` in a cluster), which clients would prefer.
    """

    def __init__(self, *targets: Address) -> None:
        self.targets = list(targets)
        self.latency_s = 0.0  # each chunk of at most 64 KiB, either way, waits for it
        self.bytes_per_s: float | None = None  # each way of each connection
        self.port = 0
        self.accepted = 0
        self.cuts = 0
        self._reserved: socket.socket | None = None  # keeps the port while nobody listens
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._flows = asyncio.Event()
        self._flows.set()

    @property
    def url(self) -> str:
        """Its address, for NATS_URL."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._links)

    async def __aenter__(self) -> Self:
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.port = int(self._reserved.getsockname()[1])
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._refuse()
        await self._reset()
        assert self._reserved is not None
        self._reserved.close()

    async def cut(self, *, hole: bool = False) -> None:
        """Resets what is connected and refuses what comes.

        With `hole` all stays open, and new connections are accepted, but nothing flows, the end of a connection
        neither; what was sent meanwhile arrives when it is mended.
        """
        self.cuts += 1
        if hole:
            self._flows.clear()
        else:
            await self._refuse()
            await self._reset()

    async def mend(self) -> None:
        """As it was before the cut."""
        self._flows.set()
        if self._server is None:
            await self._listen()

    def slow(self, latency_s: float = 0.0, bytes_per_s: float | None = None) -> None:
        """From now on; `slow()` is as fast as can be."""
        self.latency_s, self.bytes_per_s = latency_s, bytes_per_s

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, reuse_port=True)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _reset(self) -> None:
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        writers = [writer]
        link = asyncio.create_task(self._link(reader, writers), name=f"proxy {self.port}")
        self._links[link] = writers
        link.add_done_callback(self._ended)

    def _ended(self, link: asyncio.Task[None]) -> None:
        for writer in self._links.pop(link):
            if link.cancelled() and (sock := writer.get_extra_info("socket")) is not None:
                with suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        if not link.cancelled():
            link.exception()

    async def _link(self, reader: asyncio.StreamReader, writers: list[asyncio.StreamWriter]) -> None:
        await self._flows.wait()
        for host, port in random.sample(self.targets, len(self.targets)):
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_S):
                    far_reader, far_writer = await asyncio.open_connection(host, port)
                writers.append(far_writer)
                ways = [
                    asyncio.create_task(self._pump(reader, far_writer)),
                    asyncio.create_task(self._pump(far_reader, writers[0])),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)
                return

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One way, to its end."""
        with suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                if self.latency_s:
                    await asyncio.sleep(self.latency_s)
                if self.bytes_per_s:
                    await asyncio.sleep(len(chunk) / self.bytes_per_s)
                await self._flows.wait()
                writer.write(chunk)
                await writer.drain()
        await self._flows.wait()
