"""Every replica of every service, as its answers and its silence tell.

Each gateway asks all of them once a second, watched or not, so that it knows at any time who has fallen silent. Those
that are gone are told to the other gateways too, so that one that was started later shows the same.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, NamedTuple

import structlog

from libs.common import micro, subjects
from libs.common.bus import Bus
from libs.common.errors import BrokerUnavailable, MalformedMessage
from libs.common.micro import Gone, Health, Stats
from libs.common.tally import Failure
from libs.common.tasks import end

POLL_S = 1.0
LOST_FROM = 3  # polls in a row without an answer
GRACE_S = 0.25  # for the answer to the last of them
FORGIVEN = -3  # polls more after the broker was away: not all come back at once
WINDOW_S = 10.0  # that rates are of

READY, UNREADY, STOPPING, STOPPED, LOST = "ready", "unready", "stopping", "stopped", "lost"
KEPT_S = {STOPPED: 120.0, LOST: 600.0}  # how long one that is gone is shown
GONE_MOST = 10  # of a service: the last ones

SERVICE_OF = {name: service for service, name in subjects.SERVICES.items()}

log = structlog.get_logger()


class Figures(NamedTuple):
    """Of an endpoint, at a moment; times are nanoseconds."""

    done: int
    failures: int
    took_ns: int


class Pace(NamedTuple):
    """Of an endpoint lately: pieces of work and failures a second, and the mean time of one in ms (None: none done)."""

    per_second: float
    failures_per_second: float
    latency_ms: float | None


class Replica:
    """One process of a service; `heard_at` is seconds since 1970, of its last word."""

    def __init__(self, name: str, id_: str, version: str, metadata: dict[str, str], started: str) -> None:
        self.service, self.id = SERVICE_OF[name], id_
        self.name, self.version, self.metadata, self.started = name, version, metadata, started
        self.heard_at = 0.0
        self.unanswered = 0
        self.asked_at = 0.0  # by the monotonic clock
        self.stats: Stats | None = None
        self.health = Health()
        self.gone_as: str | None = None  # as another gateway says
        self.last_error: Failure | None = None
        self._samples: deque[tuple[float, dict[str, Figures]]] = deque()

    def answered(self, stats: Stats, health: Health, now: float, wall: float) -> None:
        """It is there."""
        self.stats, self.health, self.last_error = stats, health, health.last_error
        self.heard_at, self.unanswered, self.gone_as = wall, 0, None
        figures = {one.name: Figures(one.num_requests, one.num_errors, one.processing_time) for one in stats.endpoints}
        self._samples.append((now, figures))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW_S:
            self._samples.popleft()

    def state(self, now: float) -> str:
        """READY, UNREADY, STOPPING, STOPPED or LOST."""
        if self.gone_as is not None:
            return self.gone_as
        if self.health.state == micro.STOPPED:
            return STOPPED
        if self.unanswered - (now - self.asked_at < GRACE_S) >= LOST_FROM:  # the last may be answered yet
            return LOST
        if self.health.state == micro.STOPPING:
            return STOPPING
        return READY if all(self.health.checks.values()) else UNREADY

    def pace(self, endpoint: str) -> Pace | None:
        """How fast an endpoint works, None while that is not known."""
        if len(self._samples) < 2:
            return None
        (first_at, first), (last_at, last) = self._samples[0], self._samples[-1]
        if endpoint not in first or last_at <= first_at:
            return None
        done = last[endpoint].done - first[endpoint].done
        took_ns = last[endpoint].took_ns - first[endpoint].took_ns
        failures, seconds = last[endpoint].failures - first[endpoint].failures, last_at - first_at
        return Pace(done / seconds, failures / seconds, took_ns / done / 1e6 if done else None)


class Replicas:
    """All of them. Use `watched_replicas`."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.heard_at = 0.0  # any of them, seconds since 1970
        self.own: str | None = None  # the id of this process, which answers itself through the broker
        self._known: dict[str, Replica] = {}

    def all(self) -> list[Replica]:
        """In a steady order."""
        self._forget(time.monotonic(), time.time())
        return sorted(self._known.values(), key=lambda one: (one.service, one.metadata.get("replica", ""), one.started))

    def gone(self) -> tuple[Gone, ...]:
        """Those that are no more, for other gateways."""
        now = time.monotonic()
        found = [(one, one.state(now)) for one in self.all()]
        return tuple(
            Gone(
                name=one.name,
                id=one.id,
                version=one.version,
                metadata=one.metadata,
                started=one.started,
                state=state,
                heard_at=one.heard_at,
                last_error=one.last_error,
            )
            for one, state in found
            if state in KEPT_S
        )

    def asked(self, now: float) -> None:
        """All are asked now. Where not even this process has heard itself it is the broker that is silent, not they."""
        own = self._known.get(self.own or "")
        if own is not None and own.unanswered > 0:
            return
        for one in self._known.values():
            if one.gone_as is None:
                one.unanswered += 1
                one.asked_at = now

    def forgive(self) -> None:
        """Nobody could be heard for a while, through no fault of theirs."""
        for one in self._known.values():
            if one.unanswered < LOST_FROM:
                one.unanswered = FORGIVEN

    def heard(self, body: bytes, now: float, wall: float) -> None:
        """An answer, or what one has said unasked. What is none of ours is passed over."""
        try:
            stats = micro.stats_in(body)
            health = stats.health()
            stats.work()
        except MalformedMessage as error:
            log.debug("an answer of the micro protocol cannot be read", error=str(error))
            return
        if stats.name not in SERVICE_OF:
            return
        replica = self._known.get(stats.id)
        if replica is None:
            replica = Replica(stats.name, stats.id, stats.version, stats.metadata, stats.started)
            self._known[stats.id] = replica
        replica.answered(stats, health, now, wall)
        self.heard_at = wall
        for one in health.gone:
            self._adopt(one, wall)

    def _adopt(self, gone: Gone, wall: float) -> None:
        if gone.name not in SERVICE_OF or gone.state not in KEPT_S or wall - gone.heard_at > KEPT_S[gone.state]:
            return
        replica = self._known.get(gone.id)
        if replica is None:
            replica = Replica(gone.name, gone.id, gone.version, gone.metadata, gone.started)
            self._known[gone.id] = replica
        elif not (
            gone.state == STOPPED and replica.unanswered >= LOST_FROM
        ):  # what was heard here itself is known better
            return
        replica.gone_as, replica.heard_at, replica.last_error = gone.state, gone.heard_at, gone.last_error

    def _forget(self, now: float, wall: float) -> None:
        kept: dict[str, int] = {}
        for one in sorted(self._known.values(), key=lambda one: -one.heard_at):
            state = one.state(now)
            if state not in KEPT_S:
                continue
            kept[one.service] = kept.get(one.service, 0) + 1
            if wall - one.heard_at > KEPT_S[state] or kept[one.service] > GONE_MOST:
                del self._known[one.id]

    async def run(self) -> None:
        """Asks, until cancelled."""

        async def heard(message: Any) -> None:
            self.heard(message.data, time.monotonic(), time.time())

        inbox = self.bus.new_inbox()
        subscriptions = [await self.bus.subscribe(one, heard) for one in (f"{inbox}.*", subjects.ALL_STATUS)]
        try:
            await self._ask(inbox)
        finally:
            with suppress(Exception):  # the link is down: the subscriptions are gone with it, and that was logged
                for subscription in subscriptions:
                    await subscription.unsubscribe()

    async def _ask(self, inbox: str) -> None:
        reconnects = self.bus.reconnects
        for asked in count():  # at a subject of its own each: the broker lets one answer through to each
            if reconnects != self.bus.reconnects:
                reconnects = self.bus.reconnects
                self.forgive()
            if self.bus.connected:
                try:
                    for service in subjects.SERVICES:
                        await self.bus.tell(subjects.stats(service), reply=f"{inbox}.{asked}")
                    self.asked(time.monotonic())
                except BrokerUnavailable as error:
                    log.debug("nobody can be asked how they are", error=str(error))
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def watched_replicas(bus: Bus) -> AsyncIterator[Replicas]:
    """Replicas that are asked meanwhile."""
    replicas = Replicas(bus)
    task = asyncio.create_task(replicas.run(), name="replicas")
    try:
        yield replicas
    finally:
        await end(task)
