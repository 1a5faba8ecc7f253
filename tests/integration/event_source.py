"""A client of server-sent events over a bare socket: it sees every byte, and reads as slowly as a test wants."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass
class Event:
    """What an EventSource would dispatch."""

    id: str | None = None
    event: str = "message"
    data: dict[str, Any] = field(default_factory=dict)


class EventClient:
    """`async with EventClient(port, session, after=…)`; `retry_ms` and `comments` are what came beside events."""

    def __init__(self, port: int, session: str, *, query: str = "", held_bytes: int = 0, **headers: str) -> None:
        self.port = port
        self.path = f"/v1/sessions/{session}/events{query}"
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.held_bytes = held_bytes
        self.status = 0
        self.answered: dict[str, str] = {}
        self.retry_ms: list[int] = []
        self.comments: list[str] = []
        self._text = b""

    async def __aenter__(self) -> Self:
        sock = socket.socket()
        if self.held_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.held_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        self.reader, self.writer = await asyncio.open_connection(sock=sock, limit=self.held_bytes or 2**16)
        lines = [f"GET {self.path} HTTP/1.1", "Host: localhost", "Accept: text/event-stream"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        status, *headers = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(status.split()[1])
        self.answered = dict(line.lower().split(": ", 1) for line in headers if line)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def _more(self) -> bool:
        """Another chunk; False at the proper end. Raises IncompleteReadError where the connection broke off."""
        size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
        self._text += (await self.reader.readexactly(size + 2))[:-2]
        return size > 0

    async def next(self, timeout_s: float = 20) -> Event | None:
        """The next event, or None at the end of the stream."""
        async with asyncio.timeout(timeout_s):
            while True:
                while b"\n\n" not in self._text:
                    if not await self._more():
                        return None
                block, self._text = self._text.split(b"\n\n", 1)
                if (event := self._event(block.decode())) is not None:
                    return event

    def _event(self, block: str) -> Event | None:
        found = Event()
        data = None
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            match name:
                case "":
                    self.comments.append(value)
                case "retry":
                    self.retry_ms.append(int(value))
                case "id":
                    found.id = value
                case "event":
                    found.event = value
                case "data":
                    data = value
                case _:
                    if line.startswith(":"):
                        self.comments.append(line[1:])
        if data is None:
            return None
        found.data = json.loads(data)
        return found

    async def to_end(self) -> list[Event]:
        """All events to the end of the stream."""
        events: list[Event] = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events
