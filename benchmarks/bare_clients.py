"""WebSocket clients that cost next to nothing: a transport each, no library, no task."""

from __future__ import annotations

import asyncio
import json
import random
import struct
import time
from contextlib import suppress
from typing import NamedTuple

from tests.wait import wait_until

HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nX-Forwarded-For: {address}\r\n\r\n"
)
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
VIDEO = b'"video":{"id":"'
ID_CHARACTERS = 32
OPEN_S = 60.0
NO_MASK = bytes(4)  # a mask of zeros leaves the payload as it is


def frame(opcode: int, payload: bytes) -> bytes:
    """As a client sends it."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x80 | opcode, 0x80 | size) + NO_MASK + payload
    return struct.pack("!BBH", 0x80 | opcode, 0xFE, size) + NO_MASK + payload


class Opened(NamedTuple):
    """Seconds from the first packet to `101`, and by how much each was begun later than it should have been."""

    took: list[float]
    late: list[float]


class _Socket(asyncio.Protocol):
    def __init__(self, clients: BareClients, number: int) -> None:
        self.clients, self.number = clients, number
        self.upgraded: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.write(self.clients.handshake(self.number))

    def data_received(self, data: bytes) -> None:
        data = self._held + data
        if not self.upgraded.done():
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._held = head
                return
            if head.startswith(b"HTTP/1.1 101"):
                self.upgraded.set_result(time.monotonic())
            else:
                self.upgraded.set_exception(ConnectionError(head[:200].decode(errors="replace")))
                return
        self._held = self._frames(data)

    def _frames(self, data: bytes) -> bytes:
        at = 0
        while len(data) - at >= 2:
            opcode, size, start = data[at] & 15, data[at + 1], at + 2
            if size == 126:
                start, size = at + 4, int.from_bytes(data[at + 2 : at + 4])
            elif size == 127:
                start, size = at + 10, int.from_bytes(data[at + 2 : at + 10])
            if len(data) < start + size:
                break
            self._heard(opcode, data[start : start + size])
            at = start + size
        return data[at:]

    def _heard(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.transport.write(frame(PONG, payload))
        elif opcode == TEXT:
            self.clients.heard(self, payload)

    def connection_lost(self, _error: Exception | None) -> None:
        self.clients.lost_sockets += 1
        if not self.upgraded.done():
            self.upgraded.set_exception(ConnectionError("closed before it was upgraded"))


class BareClients:
    """Of the server at `port`. Each says that it came from an address of its own, through a proxy on this machine."""

    def __init__(self, port: int, first_number: int = 0) -> None:
        self.port = port
        self.lost_sockets = 0
        self._next = first_number
        self._sockets: list[_Socket] = []
        self._arrived: dict[str, float] = {}
        self._sessions: dict[_Socket, str] = {}
        self._round_trips: list[float] = []

    def handshake(self, number: int) -> bytes:
        """The request of a client."""
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        return HANDSHAKE.format(host="127.0.0.1", port=self.port, address=address).encode()

    def heard(self, socket: _Socket, payload: bytes) -> None:
        """A text."""
        now = time.monotonic()
        at = payload.find(VIDEO)
        if at >= 0:
            at += len(VIDEO)
            self._arrived[payload[at : at + ID_CHARACTERS].decode()] = now
        elif payload.startswith(b"echo "):
            self._round_trips.append(now - float(payload.split(b" ", 2)[1]))
        elif b'"accepted"' in payload:
            self._sessions[socket] = json.loads(payload)["session_id"]

    async def open(self, count: int, per_second: float) -> Opened:
        """`count` more connections, begun at that rate, whatever becomes of those before."""
        begun_at = time.monotonic()
        opening = []
        late = []
        for n in range(count):
            at = begun_at + n / per_second
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            late.append(time.monotonic() - at)
            opening.append(asyncio.create_task(self._open()))
        return Opened([await one for one in opening], late)

    async def _open(self) -> float:
        number, self._next = self._next, self._next + 1
        started = time.monotonic()
        async with asyncio.timeout(OPEN_S):
            loop = asyncio.get_running_loop()
            _, socket = await loop.create_connection(lambda: _Socket(self, number), "127.0.0.1", self.port)
            took = await socket.upgraded - started
        self._sockets.append(socket)
        return took

    async def lost(self) -> int:
        """How many connections have ended."""
        return self.lost_sockets

    async def search(self) -> list[str]:
        """Each begins a search; their sessions."""
        for number, socket in enumerate(self._sockets):
            parameters = {"search_query": f"load {number}", "result_limit": 5000}
            operation = {"operation": "initiate_extraction", "parameters": parameters}
            socket.transport.write(frame(TEXT, json.dumps(operation).encode()))
        await wait_until(lambda: len(self._sessions) == len(self._sockets), "all searches are accepted", OPEN_S)
        return list(self._sessions.values())

    async def arrived(self, ids: list[str], within_s: float) -> dict[str, float]:
        """When the videos of those ids came, by the monotonic clock; those that come within that time."""
        with suppress(AssertionError):  # who asks sees which are missing
            await wait_until(lambda: all(one in self._arrived for one in ids), "all have come", within_s)
        return {one: self._arrived.pop(one) for one in ids if one in self._arrived}

    async def echo(self, plan: list[tuple[float, int]], size: int) -> list[float]:
        """Sends texts of about `size` bytes by `plan`: seconds from now, number of the client; their round trips."""
        self._round_trips.clear()
        begun_at = time.monotonic()
        for after_s, number in plan:
            if (wait_s := begun_at + after_s - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            text = f"echo {time.monotonic()} ".encode().ljust(size, b"x")
            self._sockets[number].transport.write(frame(TEXT, text))
        await wait_until(lambda: len(self._round_trips) == len(plan), "all have come back", OPEN_S)
        return self._round_trips


def steady(clients: int, per_minute: float, seconds: float) -> list[tuple[float, int]]:
    """One after the other for each client, each at its own beat."""
    every_s = 60 / per_minute
    first = [random.uniform(0, every_s) for _ in range(clients)]
    beats = [(at + n * every_s, one) for one, at in enumerate(first) for n in range(int(seconds / every_s))]
    return sorted(beats)


def pages(clients: int, per_minute: float, seconds: float, page: int) -> list[tuple[float, int]]:
    """The same in all, `page` at a time, as they come from a site."""
    return sorted((at, one) for at, one in steady(clients, per_minute / page, seconds) for _ in range(page))


def surge(clients: int, page: int) -> list[tuple[float, int]]:
    """A page for all at the same moment."""
    return [(0.0, one) for _ in range(page) for one in range(clients)]
