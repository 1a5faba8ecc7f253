"""The sessions under way, of all gateways: read from the session log, so that nobody's death changes the count.

A session is under way from its request to the end of its crawl, or its deadline. It waits until a crawler has taken it:
the requests' queue is the queue, and the log's order is the order in it.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import structlog

from libs.common import subjects
from libs.common.bus import Stored
from libs.common.errors import BrokerUnavailable, MalformedMessage
from libs.common.messages import ProgressRecord, RequestRecord
from libs.common.session_log import SessionLog
from libs.common.session_state import Record, record_of

OVERDUE_S = 60.0  # past the deadline somebody has ended it; clocks may differ, and records may lack
TELL_EVERY_S = 1.0  # who waits is told of changes so often at most
PRUNE_EVERY_S = 30.0
SEEN_S = 4.0  # less than a client is let wait

log = structlog.get_logger()


class Session(NamedTuple):
    """One that is under way; `stored_at` and `until` by the broker's clock."""

    owner: str
    place: str
    sequence: int
    stored_at: float
    until: float


class Census:
    """Use `census`."""

    def __init__(self, session_log: SessionLog) -> None:
        self.session_log = session_log
        self._running: dict[str, Session] = {}
        self._waiting: dict[str, int] = {}  # the sequence of its request
        self._states: dict[str, str] = {}  # of those that a crawler has told of
        self._queue: list[int] = []  # these sequences, in order
        self._ended: set[str] | None = set()  # while the log is read: what ended meanwhile
        self._listeners: set[Callable[[], None]] = set()
        self._awaited: set[tuple[int, asyncio.Future[None]]] = set()
        self._telling: asyncio.TimerHandle | None = None
        self._pruned_at = time.monotonic()

    def count(self, before: int | None = None, *, owner: str | None = None, place: str | None = None) -> int:
        """How many are under way, of that owner or of nobody at that place; of those requested before a sequence."""
        self._prune()
        if before is None and owner is None and place is None:
            return len(self._running)
        return sum(
            (before is None or session.sequence < before)
            and (owner is None or session.owner == owner)
            and (place is None or (session.place == place and not session.owner))
            for session in self._running.values()
        )

    def __contains__(self, session: str) -> bool:
        """Whether it is counted."""
        return session in self._running

    def states(self) -> dict[str, int]:
        """How many are under way in each state: `queued`, or as their crawlers say (`crawling`, `waiting`, …)."""
        self._prune()
        told = ("queued" if one in self._waiting else self._states.get(one, "crawling") for one in self._running)
        return dict(sorted(Counter(told).items()))

    @property
    def queued(self) -> int:
        """How many of them no crawler has taken yet."""
        return len(self._queue)

    def longest_wait_s(self) -> float:
        """How long ago the first of those was asked for."""
        self._prune()
        waiting = [self._running[session].stored_at for session in self._waiting if session in self._running]
        return max(0.0, time.time() - min(waiting)) if waiting else 0.0

    def before(self, session: str) -> int:
        """How many wait before `session`, which waits too; else 0."""
        sequence = self._waiting.get(session)
        return 0 if sequence is None else bisect_left(self._queue, sequence)

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls `listener` when those who wait have changed."""
        self._listeners.add(listener)

    def leave(self, listener: Callable[[], None]) -> None:
        """No more."""
        self._listeners.discard(listener)

    async def seen(self, sequence: int) -> None:
        """Returns when all up to that record of the log is counted. Raises BrokerUnavailable after SEEN_S."""
        if self.session_log.tail.sequence >= sequence:
            return
        heard = asyncio.get_running_loop().create_future()
        self._awaited.add((sequence, heard))
        try:
            async with asyncio.timeout(SEEN_S):
                await heard
        except TimeoutError as error:
            raise BrokerUnavailable(f"the session log is not heard up to record {sequence} yet") from error
        finally:
            self._awaited.discard((sequence, heard))

    async def load(self) -> None:
        """Counts what is under way now."""
        bus = self.session_log.bus
        self.session_log.listeners.append(self._heard)
        listed = {
            kind: {subjects.session_in(one) for one in found}
            for kind in (subjects.REQUEST, subjects.PROGRESS, subjects.CRAWLED, subjects.CANCEL)
            for found, _ in [await bus.subjects_under(subjects.RESULTS, subjects.records_of_all(kind))]
        }
        for session in listed[subjects.REQUEST] - listed[subjects.CRAWLED] - listed[subjects.CANCEL]:
            request = await self.session_log.get(session, subjects.REQUEST)
            if request is not None and session not in (self._ended or ()):
                waits = session not in listed[subjects.PROGRESS]
                self._begun(session, request, waits=waits)
                told = None if waits else await self.session_log.get(session, subjects.PROGRESS)
                if told is not None and session not in self._states:
                    self._tells(session, told)
        self._ended = None

    def stop(self) -> None:
        """Hears no more."""
        self.session_log.listeners.remove(self._heard)
        if self._telling is not None:
            self._telling.cancel()

    def _heard(self, stored: Stored) -> None:
        self._count(stored)
        for sequence, heard in list(self._awaited):
            if sequence <= stored.sequence and not heard.done():
                heard.set_result(None)

    def _count(self, stored: Stored) -> None:
        try:
            session, kind, _ = subjects.record_key(stored.subject)
        except MalformedMessage:
            return
        if kind == subjects.REQUEST:
            if (record := record_of(stored)) is not None:
                self._begun(session, record, waits=True)
        elif kind in (subjects.CRAWLED, subjects.CANCEL):
            if self._ended is not None:
                self._ended.add(session)
            self._end(session)
        elif kind == subjects.PROGRESS:
            self._taken(session)
            if (record := record_of(stored)) is not None:
                self._tells(session, record)

    def _begun(self, session: str, record: Record, *, waits: bool) -> None:
        if session in self._running or not isinstance(record.message, RequestRecord):
            return
        asked = record.message
        until = record.stored_at + asked.request.deadline_s + OVERDUE_S
        if until < time.time():
            return
        self._running[session] = Session(asked.owner, asked.place, record.sequence, record.stored_at, until)
        if waits:
            self._waiting[session] = record.sequence
            insort(self._queue, record.sequence)
            self._moved()

    def _tells(self, session: str, record: Record) -> None:
        if session in self._running and isinstance(record.message, ProgressRecord):
            self._states[session] = record.message.state

    def _end(self, session: str) -> None:
        self._running.pop(session, None)
        self._states.pop(session, None)
        self._taken(session)

    def _taken(self, session: str) -> None:
        sequence = self._waiting.pop(session, None)
        if sequence is not None:
            del self._queue[bisect_left(self._queue, sequence)]
            self._moved()

    def _moved(self) -> None:
        if self._queue and self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TELL_EVERY_S, self._tell)

    def _tell(self) -> None:
        self._telling = None
        for listener in list(self._listeners):
            listener()

    def _prune(self) -> None:
        if time.monotonic() - self._pruned_at < PRUNE_EVERY_S:
            return
        self._pruned_at = time.monotonic()
        for session in [name for name, one in self._running.items() if one.until < time.time()]:
            self._end(session)


@asynccontextmanager
async def census(session_log: SessionLog) -> AsyncIterator[Census]:
    """A census that is kept up to date meanwhile."""
    found = Census(session_log)
    await found.load()
    try:
        yield found
    finally:
        found.stop()
