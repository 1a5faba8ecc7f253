"""Clients that search and time every video, at next to no cost to the machine that is measured."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import msgspec

from benchmarks.bare_clients import ID_CHARACTERS, TEXT, VIDEO, BareClients, _Socket, frame
from tests.wait import wait_until

SESSION = b'"session_id":"'
PATIENCE_S = 300.0
QUIET_S = 0.7


class Searched(msgspec.Struct):
    """One search by the monotonic clock: when it was asked, when each video came, when it was over."""

    begun_at: float
    session: str = ""
    videos: dict[str, float] = {}
    done_at: float = 0.0
    refused: str = ""


class Searches(BareClients):
    """Of one gateway; each search over a connection of its own."""

    def __init__(self, port: int, first_number: int = 0) -> None:
        super().__init__(port, first_number)
        self._running: dict[_Socket, Searched] = {}

    def heard(self, socket: _Socket, payload: bytes) -> None:
        """A text."""
        running = self._running.get(socket)
        if running is None:
            super().heard(socket, payload)
            return
        now, at = time.monotonic(), payload.find(VIDEO)
        if at >= 0:
            at += len(VIDEO)
            running.videos.setdefault(payload[at : at + ID_CHARACTERS].decode(), now)
        elif b'"event":"completed"' in payload:
            running.done_at = now
        elif b'"event":"accepted"' in payload:
            at = payload.find(SESSION) + len(SESSION)
            running.session = payload[at : at + 32].decode()
        elif b'"event":"error"' in payload:
            running.refused, running.done_at = payload.decode(), now

    async def run(self, queries: list[str], limit: int) -> list[Searched]:
        """All at once; raises RuntimeError where one is refused."""
        if (more := len(queries) - len(self._sockets)) > 0:
            await self.open(more, 500.0)
        found = []
        for socket, query in zip(self._sockets, queries, strict=False):
            self._running[socket] = searched = Searched(time.monotonic())
            found.append(searched)
            parameters = {"search_query": query, "result_limit": limit}
            socket.transport.write(frame(TEXT, operation(parameters)))
        await wait_until(lambda: all(one.done_at for one in found), "all searches are over", PATIENCE_S)
        for one in found:
            if one.refused:
                raise RuntimeError(one.refused)
        return found

    async def open_searches(self, count: int) -> list[str]:
        """So many connections with a search each; their sessions."""
        await self.open(count, 500.0)
        return await self.search()

    async def arrived_of(self, ids: list[str]) -> dict[str, float]:
        """When those of these videos came that came here, once none has come for a while."""
        known = -1
        while known != len(self._arrived):
            known = len(self._arrived)
            await asyncio.sleep(QUIET_S)
        return {one: self._arrived.pop(one) for one in ids if one in self._arrived}


def operation(parameters: dict[str, Any]) -> bytes:
    """A request for a search."""
    return json.dumps({"operation": "initiate_extraction", "parameters": parameters}).encode()


class Emitted:
    """When a crawler captured each video first, by session and signature, as the raw subjects have it."""

    def __init__(self) -> None:
        self.at: dict[tuple[str, str], float] = {}
        self.items = 0
        self.moments: list[float] = []  # of each item
        self._clock = time.time() - time.monotonic()

    async def heard(self, message: Any) -> None:
        """One item."""
        self.items += 1
        self.moments.append(time.monotonic())
        raw = _raw.decode(message.data)
        self.at.setdefault((message.subject.split(".")[2], raw.signature), raw.captured_at - self._clock)

    def latencies(self, found: list[Searched]) -> list[float]:
        """Seconds from a video's capture to its frame."""
        return [
            at - self.at[one.session, id_]
            for one in found
            for id_, at in one.videos.items()
            if (one.session, id_) in self.at
        ]


class _Captured(msgspec.Struct):
    signature: str
    captured_at: float


_raw = msgspec.json.Decoder(_Captured)
