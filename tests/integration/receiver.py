"""A receiver of webhooks that does as a test has it, and notes what it was sent."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

from standardwebhooks import Webhook

OK = b"HTTP/1.1 204 No Content\r\n\r\n"
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of"  # and no more
DROP = b""
GONE = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
ENDLESS = b"endless"
HANG = b"hang"


def status(code: int, *headers: str) -> bytes:
    """An answer of no body."""
    return "\r\n".join([f"HTTP/1.1 {code} Said So", "Content-Length: 0", *headers, "", ""]).encode()


class Received(NamedTuple):
    """A post; `at` is monotonic."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def verified(self, secret: str) -> dict[str, Any]:
        """By the library that receivers have."""
        found: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return found


class Receiver:
    """Use `receiver`. `plan` are the answers to come, then all is well; each takes `delay_s`."""

    def __init__(self) -> None:
        self.plan: deque[bytes] = deque()
        self.delay_s = 0.0
        self.posts: list[Received] = []
        self.taken: list[Received] = []  # of those the ones that were answered well
        self.connections = 0
        self.at_once = self.most_at_once = 0
        self.port = 0
        self.scheme = "http"
        self.released = asyncio.Event()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hooks?who=me"

    @property
    def events(self) -> list[dict[str, Any]]:
        """What a receiver has that drops what it knows, by its id."""
        return [post.event for post in {post.id: post for post in reversed(self.taken)}.values()][::-1]

    @property
    def sequences(self) -> list[int]:
        """Of the videos of these."""
        return [found["sequence"] for event in self.events for found in event["data"].get("videos", ())]

    @property
    def completed(self) -> bool:
        return any(event["type"] == "completed" for event in self.events)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        post = Received(first.split(" ")[1], headers, body, time.monotonic())
        self.posts.append(post)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            answer = self.plan.popleft() if self.plan else OK
            await asyncio.sleep(self.delay_s)
            if answer == HANG:
                await self.released.wait()
                return False
            if answer == ENDLESS:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                while True:
                    writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
                    await writer.drain()
            writer.write(answer)
            await writer.drain()
            if answer == OK:
                self.taken.append(post)
            return answer not in (CUT, DROP)
        finally:
            self.at_once -= 1


@asynccontextmanager
async def receiver(plan: Sequence[bytes] = (), tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """One that listens meanwhile."""
    one = Receiver()
    one.plan.extend(plan)
    serving: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        task.add_done_callback(serving.discard)
        with suppress(asyncio.CancelledError):
            await one.serve(reader, writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    one.port, one.scheme = server.sockets[0].getsockname()[1], "http" if tls is None else "https"
    try:
        yield one
    finally:
        one.released.set()
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
