"""The videos of a session that a request over HTTP asks for: those there are, or the first that come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.types import Receive

from libs.common.frames import VideoFrame
from libs.common.tasks import end, result_of
from services.gateway.following import Following
from services.gateway.representations import csv_header, csv_row, ndjson_line
from services.gateway.resources import FoundVideo
from services.gateway.streaming import left


class Reading:
    """At most `limit` videos. Where there are none yet, those are given that come within `wait_s`, or before `over`.

    Nothing is waited for once the client has left, as `receive` tells. `completed`: the session is over, and none comes
    after the last that was given.
    """

    def __init__(self, following: Following, limit: int, wait_s: float, over: asyncio.Event, receive: Receive) -> None:
        self.following = following
        self.limit = limit
        self.wait_s = wait_s
        self.over, self.receive = over, receive
        self.given = 0
        self.completed = False

    async def videos(self) -> AsyncGenerator[FoundVideo, None]:
        """Raises as `Following.stored` does."""
        async with aclosing(self._stored()) as found:
            async for video in found:
                yield video
        if self.given or self.completed or not self.wait_s:
            return
        first = await self._first()
        self.completed = self.following.state.complete
        if first is not None:
            yield self._counted(first)
            async with aclosing(self._stored()) as found:
                async for video in found:
                    yield video

    async def _stored(self) -> AsyncGenerator[FoundVideo, None]:
        if self.completed or self.given >= self.limit:
            return
        async with aclosing(self.following.stored()) as steps:
            async for frame, *_ in steps:
                if isinstance(frame, VideoFrame):
                    yield self._counted(frame)
                    if self.given >= self.limit:
                        return
        self.completed = self.following.state.complete

    def _counted(self, frame: VideoFrame) -> FoundVideo:
        self.given += 1
        self.completed = self.following.state.complete
        return FoundVideo(sequence=frame.sequence, video=frame.video)

    async def _first(self) -> VideoFrame | None:
        """The next video; None where the session ends without one, none comes in time, or the client leaves."""
        coming = asyncio.create_task(self._next(), name="wait for a video")
        over = asyncio.create_task(self.over.wait(), name="wait for the drain")
        leaving = asyncio.create_task(left(self.receive), name="client leaves")
        try:
            await asyncio.wait({coming, over, leaving}, timeout=self.wait_s, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                return coming.result()
        finally:
            await end(coming, over, leaving)
        return result_of(coming)

    async def _next(self) -> VideoFrame | None:
        async with aclosing(self.following.steps()) as steps:
            async for frame, *_ in steps:
                if isinstance(frame, VideoFrame):
                    return frame
        return None


async def ndjson_of(reading: Reading) -> AsyncGenerator[bytes, None]:
    """A line a video."""
    async with aclosing(reading.videos()) as found:
        async for video in found:
            yield ndjson_line(video)


async def csv_of(reading: Reading) -> AsyncGenerator[bytes, None]:
    """The header, then a row a video."""
    header = csv_header()
    async with aclosing(reading.videos()) as found:
        async for video in found:
            yield header + csv_row(video)
            header = b""
    if header:
        yield header
