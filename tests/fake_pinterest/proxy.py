"""A proxy that leads every CONNECT, whatever its host, to the stand-in's TLS listener.

Well-kept proxies (proxy.py, mitmproxy) resolve and dial the host that is asked for; to send all of them
to one port takes a plugin longer than this relay, and processes or certificates that are not wanted here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter

_CHUNK = 65_536
_REFUSAL = b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class ConnectProxy:
    def __init__(self, listener: socket.socket, tls_port: int, connects: Counter[str]) -> None:
        self._listener, self._tls_port, self._connects = listener, tls_port, connects
        self._tunnels: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> ConnectProxy:
        self._server = await asyncio.start_server(self._accept, sock=self._listener)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()
        for tunnel in self._tunnels:
            tunnel.cancel()
        await asyncio.gather(*self._tunnels, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tunnel = asyncio.create_task(self._serve(reader, writer))
        self._tunnels.add(tunnel)
        tunnel.add_done_callback(self._tunnels.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            try:
                await self._tunnel(reader, writer)
            finally:
                writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, target, _ = head.split(" ", 2)
        if method != "CONNECT":
            writer.write(_REFUSAL)
            await writer.drain()
            return
        self._connects[target.rpartition(":")[0].lower()] += 1
        site_reader, site_writer = await asyncio.open_connection("127.0.0.1", self._tls_port)
        try:
            writer.write(_ESTABLISHED)
            await asyncio.gather(_pump(reader, site_writer), _pump(site_reader, writer))
        finally:
            site_writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while chunk := await source.read(_CHUNK):
        sink.write(chunk)
        await sink.drain()
    sink.close()
