"""A gateway that dies with a hundred clients on it: each goes on at another and ends with the exact set."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import pytest

from libs.client.client import Client, Search
from libs.common.frames import VideoFrame
from libs.common.messages import Reason, Video
from tests.e2e.answer import assert_right
from tests.e2e.conftest import Stack
from tests.fake_pinterest import expected_results
from tests.wait import wait_until

CLIENTS, SESSIONS = 100, 5


class Reading:
    """What one client gets of a session."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.videos: list[Video] = []
        self.completed = 0

    async def run(self) -> None:
        async with aclosing(self.search.frames()) as frames:
            async for frame in frames:
                if isinstance(frame, VideoFrame):
                    self.videos.append(frame.video)
                self.completed += frame is self.search.completed


@pytest.mark.timeout(300)
async def test_a_hundred_clients_of_a_killed_gateway_resume_at_another_with_the_exact_set(stack_of: Stack) -> None:
    stack = await stack_of(gateways=2, restart=False)
    client = Client(",".join(stack.ws_urls))
    queries = [f"bowls pins:160 size:8 seed:hundred{n} latency:800" for n in range(SESSIONS)]
    owners = [Reading(client.search(query, limit=5000)) for query in queries]
    async with asyncio.TaskGroup() as group:
        for owner in owners:
            group.create_task(owner.run())
        await wait_until(lambda: all(owner.search.session_id for owner in owners), "all sessions are accepted", 60)
        readings = [[owner] for owner in owners]
        for n in range(CLIENTS - SESSIONS):
            session = owners[n % SESSIONS].search.session_id
            assert session is not None
            reading = Reading(client.follow(session))
            readings[n % SESSIONS].append(reading)
            group.create_task(reading.run())
        everyone = [reading for session in readings for reading in session]
        await wait_until(lambda: all(len(reading.videos) >= 3 for reading in everyone), "all are in the middle", 90)
        assert not any(reading.completed for reading in everyone)
        started = time.monotonic()
        stack.kill("gateway", 0)
        await wait_until(lambda: all(reading.search.reconnects for reading in everyone), "all have lost it", 30)
        print(f"all {len(everyone)} clients knew after {time.monotonic() - started:.2f} s")
    for query, clients in zip(queries, readings, strict=True):
        expected = expected_results(query)
        for reading in clients:
            assert_right(reading.videos, expected)
            assert (reading.completed, reading.search.reconnects) == (1, 1)
            assert reading.search.completed is not None
            assert reading.search.completed.reason is Reason.EXHAUSTED
            assert reading.search.completed.sequence == clients[0].search.completed.sequence  # type: ignore[union-attr]
    assert len(everyone) == CLIENTS
