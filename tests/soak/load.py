"""Full load: clients that search one thing after another, and hold each answer against the right one."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import aclosing
from typing import NamedTuple

from libs.client.client import Client
from libs.common.errors import PinstreamError
from libs.common.frames import VideoFrame
from libs.common.messages import Kind, Video
from tests.e2e.answer import assert_right
from tests.fake_pinterest import expected_results

CLIENTS = 8  # twice as many as the crawler has slots, so that none is ever free
SLOW_CLIENTS = 2  # besides
SLOW_S = 0.1  # that a slow client takes over each video
POPULAR = 20  # queries that are asked again and again
SHARE_POPULAR = 0.3
SHARE_CANCELLED = 0.15
SHARE_LIMITED = 0.3
SHARE_OF_PAGE = 0.05  # searches whose feed is refused, so that the page is rendered and scrolled
PINS = (20, 40, 60, 120, 240, 480)
PIN_WEIGHTS = (6, 6, 5, 4, 2, 1)
ALL = 5000  # a limit that no search here comes to


class Search(NamedTuple):
    """One search of the plan: at most `limit` videos, left (and so cancelled) after `leave_after`."""

    query: str
    limit: int = ALL
    leave_after: int | None = None
    slow: bool = False


class Plan:
    """The searches of one client, the same for the same seed."""

    def __init__(self, seed: int, client: int, slow: bool) -> None:
        self._random = random.Random(f"{seed} {client}")
        self._seed = seed
        self._client = client
        self._slow = slow
        self._number = 0

    def next(self) -> Search:
        """The next one."""
        chance = self._random.random
        self._number += 1
        pins = self._random.choices(PINS, PIN_WEIGHTS)[0]
        if chance() < SHARE_POPULAR:
            popular = self._random.randrange(POPULAR)
            query = f"glaze pins:{PINS[popular % len(PINS)]} seed:popular{popular}x{self._seed}"
        else:
            query = f"kiln pins:{pins} seed:{self._client}x{self._number}x{self._seed}"
        if chance() < SHARE_OF_PAGE:
            query = (
                f"page pins:{min(pins, 60)} seed:{self._client}x{self._number}x{self._seed} fault:forbidden at:first"
            )
        if chance() < SHARE_CANCELLED:
            return Search(query, leave_after=self._random.randint(1, 10), slow=self._slow)
        if chance() < SHARE_LIMITED:
            return Search(query, limit=self._random.randint(1, 40), slow=self._slow)
        return Search(query, slow=self._slow)


class Served:
    """What came of all searches."""

    def __init__(self) -> None:
        self.sessions = 0
        self.cancelled = 0
        self.videos = 0
        self.wrong: list[str] = []

    async def load(self, url: str, seed: int, length_s: float) -> None:
        """Searches by all clients for so long; those under way then are finished."""
        end = time.monotonic() + length_s
        async with asyncio.TaskGroup() as group:
            for client in range(CLIENTS + SLOW_CLIENTS):
                group.create_task(self._client(url, Plan(seed, client, client >= CLIENTS), end))

    async def _client(self, url: str, plan: Plan, end: float) -> None:
        client = Client(url)
        while time.monotonic() < end:
            wanted = plan.next()
            try:
                videos = await _videos(client, wanted)
                _check(wanted, videos)
            except (PinstreamError, AssertionError) as error:
                self.wrong.append(f"{wanted.query!r} limit {wanted.limit}: {type(error).__name__}: {error}"[:500])
            else:
                self.videos += len(videos)
            self.sessions += 1
            self.cancelled += wanted.leave_after is not None


async def _videos(client: Client, wanted: Search) -> list[Video]:
    videos: list[Video] = []
    async with client.search(wanted.query, limit=wanted.limit) as search, aclosing(search.frames()) as frames:
        async for frame in frames:
            if not isinstance(frame, VideoFrame):
                continue
            videos.append(frame.video)
            if wanted.slow:
                await asyncio.sleep(SLOW_S)
            if wanted.leave_after is not None and len(videos) >= wanted.leave_after:
                return videos
    completed = search.completed
    if completed is None or completed.reason.failed:
        raise AssertionError(f"ended by {completed and completed.reason}: {completed and completed.message}")
    return videos


def _check(wanted: Search, videos: list[Video]) -> None:
    """Raises AssertionError where the answer is not the right one."""
    expected = expected_results(wanted.query)
    if wanted.leave_after is None and wanted.limit >= expected.unique:
        assert_right(videos, expected)
        return
    ids = {video.id for video in videos}
    assert len(ids) == len(videos), "a video came twice"
    assert {video.id for video in videos if video.kind is not Kind.EMBED} <= expected.by_id().keys(), "not there"
    most = min(wanted.limit, expected.unique, wanted.leave_after or ALL)
    assert len(videos) == most, f"{len(videos)} videos instead of {most}"
