"""Sessions as the gateway's clients know them: begun, cancelled, followed as frames. Holds no state of its own."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import NamedTuple

import structlog
from opentelemetry.trace import SpanKind

from libs.common import subjects
from libs.common.closing import Ending, close
from libs.common.errors import AlreadyExists, BrokerUnavailable, PublishRefused, SequenceUnknown, SessionUnknown
from libs.common.frames import AnyFrame, Completed, Progress, Summary, VideoFrame
from libs.common.messages import (
    CancelRecord,
    CrawledRecord,
    Reason,
    RequestRecord,
    SearchRequest,
    VideoRecord,
    encode,
)
from libs.common.session_log import SessionLog
from libs.common.session_state import Record, SessionState
from libs.common.telemetry import inject, message_span

START_PATIENCE_S = 5.0  # a client waits for `accepted`; after this it is told to come back

log = structlog.get_logger()


class Begun(NamedTuple):
    """A session that exists; `sequence` is its request's place in the log."""

    session: str
    sequence: int


class Step(NamedTuple):
    """A frame and the headers of the record that it comes from, which carry the trace."""

    frame: AnyFrame
    headers: dict[str, str]


class Sessions:
    """Begins, cancels and follows sessions."""

    def __init__(self, session_log: SessionLog, deadline_s: float) -> None:
        self.session_log = session_log
        self.deadline_s = deadline_s

    async def begin(self, query: str, result_limit: int) -> Begun:
        """Writes the request to the log, then hands it to the crawlers. Raises BrokerUnavailable or StreamFull."""
        session = secrets.token_hex(16)
        request = SearchRequest(
            session=session,
            query=query.strip(),
            result_limit=result_limit,
            requested_at=time.time(),
            deadline_s=self.deadline_s,
        )
        sequence = await self.session_log.create(
            session, subjects.REQUEST, RequestRecord(request=request), patience_s=START_PATIENCE_S
        )
        try:
            with message_span("send", subjects.SEARCH_TEMPLATE, SpanKind.PRODUCER), suppress(AlreadyExists):
                await self.session_log.bus.publish(
                    subjects.search(session), encode(request), headers=inject(), patience_s=START_PATIENCE_S
                )
        except (BrokerUnavailable, PublishRefused):
            await self._never_began(session)
            raise
        log.info("session begun", session=session, query=request.query, result_limit=result_limit)
        return Begun(session, sequence)

    async def _never_began(self, session: str) -> None:
        """Closes a session that its client will not hear of, so that nobody works on it if the request came through."""
        record = CrawledRecord(reason=Reason.FAILED, items=0, message="the request could not be handed on")
        try:
            await self.session_log.create(session, subjects.CRAWLED, record, patience_s=START_PATIENCE_S)
        except (BrokerUnavailable, PublishRefused) as error:
            log.warning("a session is left to its deadline", session=session, error=str(error))

    async def cancel(self, session: str) -> None:
        """Stops all work on `session` and completes it. Raises SessionUnknown; a completed session stays as it is."""
        state = await self.session_log.state(session)
        if state.request is None:
            raise SessionUnknown
        if state.complete:
            return
        bus = self.session_log.bus
        with suppress(AlreadyExists):
            await self.session_log.create(session, subjects.CANCEL, CancelRecord(requested_at=time.time()))
        await bus.tell(subjects.cancel(session))
        await close(self.session_log, session, Ending(Reason.CANCELLED), closed_by="gateway")
        await bus.purge(subjects.SEARCHES, subjects.search(session))
        await bus.purge(subjects.RAW, subjects.raw_of(session))
        await bus.purge(subjects.DIRECT, subjects.direct_of(session))
        log.info("session cancelled", session=session)

    async def follow(self, session: str, after: int = 0) -> AsyncGenerator[Step, None]:
        """The frames of `session` from the record after `after` on, to `completed`, which is always given.

        Raises SessionUnknown where the log holds no request of that id, SequenceUnknown where `after` lies ahead of it.
        """
        if await self.session_log.get(session, subjects.REQUEST) is None:
            raise SessionUnknown
        if after > self.session_log.tail.sequence and after > await self.session_log.last_sequence():
            raise SequenceUnknown
        state = SessionState()
        async with aclosing(self.session_log.follow(session)) as records:
            async for record in records:
                counted = state.apply(record)
                if counted and record.sequence > after:
                    for frame in _frames(record, state):
                        yield Step(frame, record.headers)
                if state.complete:
                    yield Step(_completed(record, state), record.headers)
                    await self._tidy(session)
                    return

    async def _tidy(self, session: str) -> None:
        """Makes room: nobody needs the raw media of a session that is over. Its fence stays."""
        try:
            await self.session_log.bus.purge(subjects.RAW, subjects.raw_of(session))
        except (BrokerUnavailable, PublishRefused) as error:
            log.info("raw media are left to age", session=session, error=str(error))


def _frames(record: Record, state: SessionState) -> list[AnyFrame]:
    message = record.message
    if isinstance(message, VideoRecord):
        return [VideoFrame(session_id=record.session, sequence=record.sequence, video=message.video)]
    if state.complete:
        return []
    return [_progress(record.session, state)]


def _progress(session: str, state: SessionState) -> Progress:
    progress = state.progress
    frame = Progress(
        session_id=session,
        found=state.videos,
        repeats=state.repeats,
        unavailable=state.unavailable,
        state="finishing" if state.crawled else progress.state if progress else "queued",
        pages=progress.pages if progress else 0,
        waiting_for=progress.waiting_for if progress and not state.crawled else None,
        waiting_until=progress.waiting_until if progress and not state.crawled else None,
    )
    return frame


def _completed(record: Record, state: SessionState) -> Completed:
    crawled = state.crawled
    assert crawled is not None, "a session completes by its crawled record"
    first = None if state.first_video_at is None else round(state.first_video_at - state.requested_at, 3)
    return Completed(
        session_id=record.session,
        sequence=state.completed_at or record.sequence,
        reason=state.reason or crawled.reason,
        message=crawled.message,
        summary=Summary(
            found=state.videos,
            repeats=state.repeats,
            unavailable=state.unavailable,
            items=crawled.items,
            first_video_s=first,
            elapsed_s=round(state.completed_time - state.requested_at, 3),
        ),
    )
