"""One search as its client sees it, held against the stand-in's right answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing

from websockets.asyncio.client import connect

from libs.client.client import Client
from libs.common.frames import AnyFrame, Completed, Pong, Progress, VideoFrame, decode_frame
from libs.common.messages import Reason, Video
from tests.e2e.answer import assert_right
from tests.fake_pinterest import expected_results
from tests.wait import wait_until


class Watch:
    """A search that runs from now on; `videos` and `progress` grow meanwhile."""

    def __init__(self, ws_url: str, query: str, *, limit: int = 5000) -> None:
        self.ws_url, self.query = ws_url, query
        self.search = Client(ws_url).search(query, limit=limit)
        self.videos: list[Video] = []
        self.progress: list[Progress] = []
        self.task = asyncio.create_task(self._run(), name=f"watch {query}")

    @property
    def session(self) -> str:
        """The session's id, once it is accepted."""
        assert self.search.session_id is not None, "not accepted yet"
        return self.search.session_id

    async def _run(self) -> None:
        async with aclosing(self.search.frames()) as frames:
            async for frame in frames:
                if isinstance(frame, VideoFrame):
                    self.videos.append(frame.video)
                elif isinstance(frame, Progress):
                    self.progress.append(frame)

    async def until(self, predicate: Callable[[], object], description: str, timeout_s: float = 20.0) -> None:
        """Waits while the search runs; fails with it."""
        await wait_until(lambda: self.task.done() or predicate(), description, timeout_s)
        if self.task.done():
            self.task.result()

    async def has(self, videos: int) -> None:
        """Returns when so many videos have arrived."""
        await self.until(lambda: len(self.videos) >= videos, f"{videos} videos")
        assert not self.task.done(), "over before it was disturbed; ask for more pins"

    async def exact(self, within_s: float = 60.0) -> None:
        """Waits for the end: exactly the expected videos, each once, completed once, nothing given up."""
        async with asyncio.timeout(within_s):
            await self.task
        expected = expected_results(self.query)
        assert_right(self.videos, expected)
        assert self.search.completed is not None
        summary = self.search.completed.summary
        assert (self.search.completed.reason, self.search.completed.message) == (Reason.EXHAUSTED, None)
        said = (summary.found, summary.repeats, summary.unavailable, summary.items)
        assert said == (expected.unique, expected.repeats, 0, expected.items)
        await self.still()

    async def still(self) -> None:
        """The log says the same to one who reads it now: the same videos, `completed` once, and nothing after it."""
        again = await replay(self.ws_url, self.session)
        ends = [frame for frame in again if isinstance(frame, Completed)]
        assert len(ends) == 1
        assert again[-1] is ends[0]
        first = self.search.completed
        assert first is not None
        assert (ends[0].sequence, ends[0].reason, ends[0].summary) == (first.sequence, first.reason, first.summary)
        videos = [frame.video.id for frame in again if isinstance(frame, VideoFrame)]
        assert videos == [video.id for video in self.videos]


async def replay(ws_url: str, session: str) -> list[AnyFrame]:
    """All frames of a session from its beginning, and what comes between `completed` and the answer to a ping."""
    frames: list[AnyFrame] = []
    async with asyncio.timeout(20), connect(ws_url, proxy=None, max_size=None) as connection:
        await connection.send(json.dumps({"operation": "resume_extraction", "parameters": {"session_id": session}}))
        async for text in connection:
            frame = decode_frame(text)
            if isinstance(frame, Pong):
                return frames
            frames.append(frame)
            if isinstance(frame, Completed):
                await connection.send('{"operation": "ping"}')
    raise AssertionError("the gateway closed the connection")
