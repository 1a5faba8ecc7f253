"""A session as one client sees it: its records, as frames, to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

import structlog

from libs.common import subjects
from libs.common.errors import (
    BrokerUnavailable,
    PinstreamError,
    PublishRefused,
    SequenceUnknown,
    SessionUnknown,
    StreamMissing,
)
from libs.common.frames import AnyFrame, Completed, Progress, Summary, VideoFrame
from libs.common.messages import RequestRecord, VideoRecord
from libs.common.session_log import SessionLog
from libs.common.session_state import Record, SessionState
from services.gateway.callers import Caller
from services.gateway.census import Census

RETRY_S = 0.5  # while the broker is away; the client has been told
CHECK_S = 30.0  # a session of which nothing is heard for so long may have been removed from the log

log = structlog.get_logger()


class SessionExpired(PinstreamError):
    """The records of this session are no longer kept, so it cannot be resumed; start a new search."""


class Step(NamedTuple):
    """A frame and the headers of the record that it comes from, which carry the trace.

    `captured_at` is when a video was, in seconds since 1970, where it came while it was waited for.
    """

    frame: AnyFrame
    headers: dict[str, str]
    captured_at: float | None = None


def may_follow(caller: Caller | None, request: Record | None) -> bool:
    """Whether there is a session of that request that `caller` may see; None may see all."""
    if request is None or not isinstance(request.message, RequestRecord):
        return False
    return caller is None or caller.may_see(request.message.owner)


class Following:
    """The frames of `session` from the record after `after` on. `turn` is shared by what one client follows."""

    def __init__(
        self,
        session_log: SessionLog,
        session: str,
        after: int = 0,
        turn: asyncio.Lock | None = None,
        check_s: float = CHECK_S,
        *,
        caller: Caller | None = None,
        census: Census | None = None,
    ) -> None:
        self.session_log = session_log
        self.session, self.after = session, after
        self.turn = turn or asyncio.Lock()
        self.check_s = check_s
        self.caller, self.census = caller, census
        self._told_queued = 0
        self._heard_from = session_log.tail.sequence  # what is stored after that is news
        self.state = SessionState()

    @property
    def queued(self) -> int:
        """How many sessions wait for a crawler before this one."""
        waits = self.census is not None and self.state.progress is None and self.state.crawled is None
        return self.census.before(self.session) if self.census is not None and waits else 0

    @property
    def queue_moved(self) -> bool:
        """Whether another number of sessions waits before this one than was told last."""
        waits = self.state.request is not None and self.state.progress is None and not self.state.complete
        return waits and self.queued != self._told_queued

    @property
    def progress(self) -> Progress:
        """How far the session is, as far as it has been read."""
        state, progress = self.state, self.state.progress
        self._told_queued = self.queued
        return Progress(
            session_id=self.session,
            found=state.videos,
            repeats=state.repeats,
            unavailable=state.unavailable,
            seen=state.seen,
            filtered=state.filtered,
            state="finishing" if state.crawled else progress.state if progress else "queued",
            pages=progress.pages if progress else 0,
            queued=self.queued,
            waiting_for=progress.waiting_for if progress and not state.crawled else None,
            waiting_until=progress.waiting_until if progress and not state.crawled else None,
        )

    async def steps(self) -> AsyncGenerator[Step, None]:
        """To `completed`, which is given in any case, once; outages of the broker are waited out.

        Raises SessionUnknown where the log holds no request of that id that `caller` may see, SessionExpired where it
        does no longer, and SequenceUnknown where `after` lies ahead of the log.
        """
        checked = False
        while not self.state.complete:
            try:
                if not checked:
                    await self.check()
                    checked = True
                follow = self.session_log.follow_kept(self.session, self.state.sequence, self.turn, self.check_s)
                async with aclosing(self._read(follow)) as steps:
                    async for step in steps:
                        yield step
                if not self.state.complete:
                    raise SessionExpired
            except BrokerUnavailable as error:
                log.warning("cannot follow a session now", session=self.session, error=str(error))
                await asyncio.sleep(RETRY_S)
        self.session_log.bus.background(self._tidy(), f"tidy {self.session}")

    async def stored(self) -> AsyncGenerator[Step, None]:
        """Those that the log holds by now, and no more; outages of the broker are BrokerUnavailable."""
        await self.check()
        kept = self.session_log.read_kept(self.session, self.state.sequence, self.turn)
        async with aclosing(self._read(kept)) as steps:
            async for step in steps:
                yield step
        if self.state.complete:
            self.session_log.bus.background(self._tidy(), f"tidy {self.session}")

    async def check(self) -> None:
        """Raises what `steps` and `stored` do at their start."""
        if not may_follow(self.caller, await self.session_log.get(self.session, subjects.REQUEST)):
            raise SessionExpired if self.after else SessionUnknown
        ahead = self.after > self.session_log.tail.sequence
        if ahead and self.after > await self.session_log.last_sequence():
            raise SequenceUnknown

    async def _read(self, source: AsyncGenerator[Record, None]) -> AsyncGenerator[Step, None]:
        state = self.state
        async with aclosing(source) as records:
            async for record in records:
                if state.request is None and not isinstance(record.message, RequestRecord):
                    raise SessionExpired  # the oldest record goes first: what else is gone cannot be known
                counted = state.apply(record)
                if counted and record.sequence > self.after:
                    for frame in self._frames(record):
                        yield Step(frame, record.headers, self._captured_at(record))
                if state.complete:
                    yield Step(self.completed, record.headers)
                    return

    def _captured_at(self, record: Record) -> float | None:
        message = record.message
        if not isinstance(message, VideoRecord) or record.sequence <= self._heard_from:
            return None
        return message.captured_at or None

    def _frames(self, record: Record) -> list[AnyFrame]:
        message = record.message
        if isinstance(message, VideoRecord):
            return [VideoFrame(session_id=self.session, sequence=record.sequence, video=message.video)]
        return [] if self.state.complete else [self.progress]

    @property
    def completed(self) -> Completed:
        """How the session ended, once it is complete."""
        state, crawled = self.state, self.state.crawled
        assert crawled is not None, "a session completes by its crawled record"
        first = None if state.first_video_at is None else round(state.first_video_at - state.requested_at, 3)
        return Completed(
            session_id=self.session,
            sequence=state.completed_at or state.sequence,
            reason=state.reason or crawled.reason,
            message=crawled.message,
            summary=Summary(
                found=state.videos,
                repeats=state.repeats,
                unavailable=state.unavailable,
                seen=state.seen,
                filtered=state.filtered,
                items=crawled.items,
                first_video_s=first,
                elapsed_s=round(state.completed_time - state.requested_at, 3),
            ),
        )

    async def _tidy(self) -> None:
        """Makes room: nobody needs the raw media of a session that is over. Its fence stays."""
        try:
            await self.session_log.bus.purge(subjects.RAW, subjects.raw_of(self.session))
        except (BrokerUnavailable, PublishRefused, StreamMissing) as error:
            log.info("raw media are left to age", session=self.session, error=str(error))
