"""The session log: all that is known of a session, as records in one bucket, and what they add up to."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple

import structlog
from opentelemetry.trace import SpanKind

from libs.common import subjects
from libs.common.bus import PATIENCE_S, Bus, Stored
from libs.common.errors import BrokerUnavailable, MalformedMessage
from libs.common.messages import (
    CancelRecord,
    CrawledRecord,
    Message,
    ProgressRecord,
    Reason,
    RepeatRecord,
    RequestRecord,
    UnavailableRecord,
    VideoRecord,
    decode,
    encode,
)
from libs.common.tail import Tail
from libs.common.tasks import end
from libs.common.telemetry import hop_span, inject

FOLLOWER_RECORDS = 512  # a follower further behind than this re-reads the log instead of being remembered
READ_BATCH = 512
LAG_S = 0.02  # how long a replica that lags is given to catch up, each time

log = structlog.get_logger()

_TYPES: dict[str, type[Message]] = {
    subjects.REQUEST: RequestRecord,
    subjects.VIDEO: VideoRecord,
    subjects.REPEAT: RepeatRecord,
    subjects.UNAVAILABLE: UnavailableRecord,
    subjects.PROGRESS: ProgressRecord,
    subjects.CRAWLED: CrawledRecord,
    subjects.CANCEL: CancelRecord,
}


class Record(NamedTuple):
    """One record of a session; `stored_at` is seconds since 1970 by the broker's clock."""

    session: str
    sequence: int
    stored_at: float
    message: Message
    headers: dict[str, str]


def record_of(stored: Stored) -> Record | None:
    """The record in `stored`, or None (and a line in the log) where it is of no kind known here."""
    key = subjects.record_key(stored.subject)
    type_ = _TYPES.get(key.kind)
    if type_ is None:
        log.debug("record of an unknown kind", subject=stored.subject)
        return None
    try:
        message = decode(stored.body, type_)
    except MalformedMessage as error:
        log.error("unreadable record", subject=stored.subject, error=str(error))
        return None
    return Record(key.session, stored.sequence, stored.stored_at, message, stored.headers)


class SessionState:
    """What the records of one session add up to, applied in order.

    A session is complete at the first record at which `crawled` is known and either as many distinct items have an
    outcome as it says, or the session was cancelled. Later records change nothing.
    """

    def __init__(self) -> None:
        self.request: RequestRecord | None = None
        self.requested_at = 0.0
        self.first_video_at: float | None = None
        self.videos = 0
        self.repeats = 0
        self.unavailable = 0
        self.outcomes: set[str] = set()
        self._unavailable: set[str] = set()
        self.progress: ProgressRecord | None = None
        self.crawled: CrawledRecord | None = None
        self.cancelled = False
        self.sequence = 0
        self.completed_at: int | None = None  # the sequence of the record that completed it
        self.completed_time = 0.0

    @property
    def complete(self) -> bool:
        """Whether the session is over."""
        return self.completed_at is not None

    @property
    def reason(self) -> Reason | None:
        """Why the session ended, once it is complete."""
        if self.crawled is None:
            return None
        short = self.cancelled and len(self.outcomes) < self.crawled.items
        return Reason.CANCELLED if short else self.crawled.reason

    def apply(self, record: Record) -> bool:
        """Adds `record`; returns whether it counted."""
        if self.complete or record.sequence <= self.sequence:
            return False
        self.sequence = record.sequence
        counted = self._apply(record)
        crawled = self.crawled
        if crawled is not None and (
            self.cancelled or crawled.reason is Reason.CANCELLED or len(self.outcomes) >= crawled.items
        ):
            self.completed_at = record.sequence
            self.completed_time = record.stored_at
        return counted

    def _apply(self, record: Record) -> bool:
        match record.message:
            case RequestRecord() as request:
                self.request, self.requested_at = request, record.stored_at
            case VideoRecord(item=item):
                if item in self._unavailable:  # settled twice, differently: the video has been given by this record
                    self._unavailable.discard(item)
                    self.unavailable -= 1
                elif not self._outcome(item):
                    return False
                self.videos += 1
                if self.first_video_at is None:
                    self.first_video_at = record.stored_at
            case RepeatRecord(item=item):
                if not self._outcome(item):
                    return False
                self.repeats += 1
            case UnavailableRecord(item=item):
                if not self._outcome(item):
                    return False
                self.unavailable += 1
                self._unavailable.add(item)
            case ProgressRecord() as progress:
                self.progress = progress
            case CrawledRecord() as crawled:
                self.crawled = crawled
            case CancelRecord():
                self.cancelled = True
        return True

    def _outcome(self, item: str) -> bool:
        if item in self.outcomes:
            return False
        self.outcomes.add(item)
        return True


class _Follower:
    def __init__(self) -> None:
        self.records: deque[Stored] = deque()
        self.behind = False
        self.wake = asyncio.Event()

    def offer(self, stored: Stored) -> None:
        if len(self.records) >= FOLLOWER_RECORDS:
            self.records.clear()
            self.behind = True
        elif not self.behind:
            self.records.append(stored)
        self.wake.set()


class SessionLog:
    """Reads and writes session logs through one tail over the bucket. Use `session_log`."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.tail = Tail(bus, subjects.RESULTS, subjects.ALL_RECORDS, self._dispatch)
        self._followers: dict[str, list[_Follower]] = {}

    async def create(
        self, session: str, kind: str, message: Message, name: str | None = None, patience_s: float = PATIENCE_S
    ) -> int:
        """Writes a record that must not exist yet; returns its sequence. Raises AlreadyExists."""
        subject = subjects.record(session, kind, name)
        with hop_span("send", subjects.RECORD_TEMPLATE, SpanKind.PRODUCER):
            return await self.bus.publish(
                subject, encode(message), headers=inject(), create=True, patience_s=patience_s
            )

    async def put(self, session: str, kind: str, message: Message) -> int:
        """Writes a record in place of the one before."""
        return await self.bus.publish(subjects.record(session, kind), encode(message), headers=inject())

    async def get(self, session: str, kind: str, name: str | None = None) -> Record | None:
        """One record as the stream's leader has it, or None."""
        stored = await self.bus.last(subjects.RESULTS, subjects.record(session, kind, name))
        return None if stored is None else record_of(stored)

    async def state(self, session: str) -> SessionState:
        """What is known of `session` now."""
        state = SessionState()
        async for record in self.read(session):
            state.apply(record)
        return state

    async def read(self, session: str, after: int = 0) -> AsyncGenerator[Record, None]:
        """The records of `session` stored so far, after sequence `after`, in order.

        Any replica of the stream answers, also one that lags, so the leader is asked first how far there is to read.
        """
        newest = await self.bus.last(subjects.RESULTS, subjects.records_of(session))
        goal = 0 if newest is None else newest.sequence
        end_at = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            batch = await self.bus.read(subjects.RESULTS, subjects.records_of(session), after + 1, READ_BATCH)
            for stored in batch:
                after = stored.sequence
                if (record := record_of(stored)) is not None:
                    yield record
            if len(batch) == READ_BATCH:
                continue
            if after >= goal:
                return
            if asyncio.get_running_loop().time() > end_at:
                raise BrokerUnavailable(f"no replica of {subjects.RESULTS} has record {goal} yet")
            await asyncio.sleep(LAG_S)

    async def follow(self, session: str, after: int = 0) -> AsyncGenerator[Record, None]:
        """The records of `session` after sequence `after`, each once, in order, and then as they come, without end."""
        follower = _Follower()
        self._followers.setdefault(session, []).append(follower)
        try:
            while True:
                async for record in self.read(session, after):
                    after = record.sequence
                    yield record
                while not follower.behind:
                    while follower.records:
                        stored = follower.records.popleft()
                        if stored.sequence > after and (found := record_of(stored)) is not None:
                            after = stored.sequence
                            yield found
                    follower.wake.clear()
                    if not follower.behind:
                        await follower.wake.wait()
                follower.behind = False
        finally:
            self._followers[session].remove(follower)
            if not self._followers[session]:
                del self._followers[session]

    def _dispatch(self, stored: Stored) -> None:
        followers = self._followers.get(stored.subject.split(".", 3)[2])
        for follower in followers or ():
            follower.offer(stored)


@asynccontextmanager
async def session_log(bus: Bus) -> AsyncGenerator[SessionLog, None]:
    """A session log whose tail runs meanwhile."""
    session_log = SessionLog(bus)
    await session_log.tail.start()
    task = asyncio.create_task(session_log.tail.run(), name="tail")
    try:
        yield session_log
    finally:
        await end(task)
