"""A lane of requests to a site, which all processes that ask it share: each takes its turn here before it asks.

The pace is one record in the bucket `pace`, replaced on the condition that it is still the one that was read. Its times
are the broker's, so that the clocks of the processes need not agree.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from hashlib import blake2b
from heapq import heappop, heappush
from itertools import count
from typing import Protocol, TypeVar

import structlog

from libs.common import metrics, pace, subjects
from libs.common.bus import Bus, Fence
from libs.common.errors import BrokerUnavailable, Fenced, MalformedMessage, StreamMissing
from libs.common.messages import Pace, Reason, decode, encode
from libs.common.pace import Held, Rate, Turn
from libs.common.tally import Tally

RETRY_S = 0.5  # while the broker is away: without it nothing found could be handed on anyway
CONTENDED_S = 0.02
CLOCK_S = 60.0  # how long what is known of the broker's clock is relied on

T = TypeVar("T")
Change = Callable[[Pace, float], tuple[Pace, T]]

log = structlog.get_logger()


def subject_of(lane: str) -> str:
    """Where the pace of a lane of that name is kept."""
    return subjects.pace(blake2b(lane.encode(), digest_size=16).hexdigest())


class Store(Protocol):
    """Where a lane's pace is kept."""

    @property
    def known(self) -> Pace:
        """As it was when this process looked last."""
        ...

    async def update(self, change: Change[T]) -> T:
        """Has `change` make a new pace of the present one, at a time, and returns what it says besides."""
        ...


class Local:
    """The pace of this process alone."""

    def __init__(self) -> None:
        self._pace = Pace()

    @property
    def known(self) -> Pace:
        """See Store."""
        return self._pace

    async def update(self, change: Change[T]) -> T:
        """See Store."""
        self._pace, result = change(self._pace, time.monotonic())
        return result


class Clock:
    """The broker's, of `stream`, read once in a while."""

    def __init__(self, bus: Bus, stream: str) -> None:
        self._bus, self._stream = bus, stream
        self._ahead_s = 0.0  # of the monotonic one here
        self._read_at = -CLOCK_S

    async def now(self) -> float:
        """In seconds."""
        asked_at = time.monotonic()
        if asked_at - self._read_at > CLOCK_S:
            told = await self._bus.clock(self._stream)
            self._read_at = time.monotonic()
            self._ahead_s = told - (asked_at + self._read_at) / 2
        return time.monotonic() + self._ahead_s


class Shared:
    """The pace of all processes that name the same `lane`, such as the site's origin.

    Those of one stream may share a `clock`. One that is `new`, as far as one knows, is written without a look first.
    """

    def __init__(
        self,
        bus: Bus,
        lane: str,
        *,
        stream: str = subjects.PACE,
        subject: str | None = None,
        clock: Clock | None = None,
        new: bool = False,
    ) -> None:
        self._bus = bus
        self._stream = stream
        self._subject = subject or subject_of(lane)
        # as this process wrote or read it last, and its sequence
        self._known: tuple[Pace, int] | None = (Pace(), 0) if new else None
        self._clock = clock or Clock(bus, stream)
        self._seen = Pace()

    @property
    def known(self) -> Pace:
        """See Store."""
        return self._seen if self._known is None else self._known[0]

    async def update(self, change: Change[T]) -> T:
        """See Store. An outage of the broker is waited out."""
        told = False
        while True:
            try:
                return await self._update(change)
            except (BrokerUnavailable, StreamMissing) as error:
                if not told:
                    log.warning("the pace cannot be agreed on now", error=str(error))
                    told = True
            await asyncio.sleep(RETRY_S)

    async def _update(self, change: Change[T]) -> T:
        fresh = False
        while True:
            now = await self._clock.now()
            if self._known is None:
                self._known, fresh = await self._read(), True
            known, sequence = self._known
            self._seen = known
            changed, result = change(known, now)
            if changed is known:
                if fresh:
                    return result
                self._known = None  # others may have changed it meanwhile
                continue
            try:
                written = await self._bus.publish(self._subject, encode(changed), fence=Fence(self._subject, sequence))
            except Fenced:
                self._known = None
                await asyncio.sleep(random.uniform(0, CONTENDED_S))
                continue
            except BrokerUnavailable:
                self._known = None
                raise
            self._known = (changed, written)
            return result

    async def _read(self) -> tuple[Pace, int]:
        stored = await self._bus.last(self._stream, self._subject)
        if stored is None:
            return Pace(), 0
        try:
            return decode(stored.body, Pace), stored.sequence
        except MalformedMessage as error:
            log.error("an unreadable pace is replaced", error=str(error))
            return Pace(), stored.sequence


class _Queue:
    """Who waits, one at a time: those of a lower rank first, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = count()
        self._taken = False

    @asynccontextmanager
    async def place(self, rank: int) -> AsyncGenerator[None, None]:
        """Within, it is this one's turn."""
        if self._taken:
            place = asyncio.get_running_loop().create_future()
            heappush(self._waiting, (rank, next(self._numbers), place))
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._next()
                raise
        self._taken = True
        try:
            yield
        finally:
            self._next()

    def _next(self) -> None:
        while self._waiting:
            place = heappop(self._waiting)[2]
            if not place.done():
                place.set_result(None)  # it stays taken
                return
        self._taken = False


class Lane:
    """Turns are given one after the other; what is cancelled while it waits for its own has used it up."""

    def __init__(self, rate: Rate, store: Store | None = None) -> None:
        self.rate = rate
        self.asked = Tally()  # what was asked of the site in its turn, for those who count it
        self._store: Store = store or Local()
        metrics.circuit_opened.add(0)
        self._queue = _Queue()  # one turn is waited for at a time, so that a process holds one at most

    @property
    def circuit(self) -> str:
        """`closed`, or why it is open, as far as this process knows."""
        known = self._store.known
        return f"open: {known.reason or Reason.UNREACHABLE}" if known.opened else "closed"

    async def turn(self, *, first: bool = False, probe: bool = True, within_s: float | None = None) -> Held | None:
        """Returns None when a request may go, or at once why none may. A session's `first` goes before all others.

        What comes of a `probe` is told by `refused` or `answered`. Raises TimeoutError where its turn would not come
        `within_s`, as soon as that is known, so that it is left to others.
        """
        until = None if within_s is None else time.monotonic() + within_s
        async with asyncio.timeout(within_s), self._queue.place(0 if first else 1):
            got = await self._store.update(partial(self._take, probe, until))
            if got is None:
                raise TimeoutError
            if isinstance(got, Held):
                return got
            if got.wait_s > 0:
                await asyncio.sleep(got.wait_s)
            return None

    async def hold(self, wait_s: float) -> None:
        """The site has asked for no request within `wait_s`."""
        await self._store.update(lambda known, now: (pace.hold(known, now, wait_s), None))

    async def refused(self, session: str, reason: Reason) -> None:
        """The site has refused a request of `session`."""
        opened = await self._store.update(lambda known, now: _opened(known, pace.refused(known, now, session, reason)))
        if opened is not None:
            metrics.circuit_opened.add(1)
            log.error("the site refuses; the circuit is open", reason=str(reason), opened=opened.opened)

    async def answered(self) -> None:
        """The site has answered a request."""
        if await self._store.update(lambda known, _: _closed(known, pace.answered(known))):
            log.info("the site answers; the circuit is closed")

    def _take(self, probe: bool, until: float | None, known: Pace, now: float) -> tuple[Pace, Turn | Held | None]:
        """None, and nothing taken, where the turn would come after `until`."""
        changed, got = pace.take(known, now, self.rate, probe=probe)
        if until is not None and isinstance(got, Turn) and time.monotonic() + got.wait_s > until:
            return known, None
        return changed, got


def _opened(before: Pace, after: Pace) -> tuple[Pace, Pace | None]:
    return after, after if after.opened > before.opened else None


def _closed(before: Pace, after: Pace) -> tuple[Pace, bool]:
    return after, before.opened > after.opened
