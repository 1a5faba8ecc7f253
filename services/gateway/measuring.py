"""What no worker can tell of itself, read from the broker at an interval: queues, streams, sessions, the site's pace.

A queue is to be known most of all when nobody works on it, so gateways measure, each the same: aggregate by max.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from libs.common import metrics, subjects
from libs.common.bus import Bus
from libs.common.errors import MalformedMessage, PinstreamError
from libs.common.lane import subject_of
from libs.common.messages import Pace, decode
from libs.common.queue_state import queue_state, stream_state
from libs.common.streams import StreamSettings, consumers, streams
from libs.common.tasks import end
from services.gateway.census import Census
from services.gateway.settings import GatewaySettings

PATIENCE_S = 2.0  # for one answer; the next look is not far
STREAMS = tuple(str(config["name"]) for config in streams(StreamSettings()))
STATES = ("queued", "starting", "crawling", "waiting")  # of sessions under way; a newer crawler may tell of others
DURABLES = tuple((stream, str(config["durable_name"])) for stream, config in consumers())

log = structlog.get_logger()


@asynccontextmanager
async def measured(bus: Bus, census: Census, settings: GatewaySettings) -> AsyncIterator[None]:
    """Meanwhile."""
    task = asyncio.create_task(_Measuring(bus, census, settings).run(), name="measure")
    try:
        yield
    finally:
        await end(task)


class _Measuring:
    def __init__(self, bus: Bus, census: Census, settings: GatewaySettings) -> None:
        self.bus, self.census = bus, census
        self.every_s = settings.measure_s
        self.states = set(STATES)
        site = settings.site_url.rstrip("/")
        self.lanes = {"crawl": site, "pin_batches": f"{site}#batches", "pins": f"{site}#pins"}

    async def run(self) -> None:
        while True:
            try:
                await self._look()
            except PinstreamError as error:
                log.info("cannot measure now", error=str(error))
            except Exception:
                log.exception("cannot measure")
            await asyncio.sleep(self.every_s)

    async def _look(self) -> None:
        self._sessions()
        for stream, durable in DURABLES:
            queue = await queue_state(self.bus, stream, durable, PATIENCE_S)
            labels = {"durable": durable}
            metrics.queue_depth.set(queue.depth, labels)
            metrics.queue_in_flight.set(queue.in_flight, labels)
            metrics.queue_redelivered.set(queue.redelivered, labels)
            metrics.queue_oldest_age.set(queue.oldest_age_s or 0.0, labels)
        for stream in STREAMS:
            held = await stream_state(self.bus, stream, PATIENCE_S)
            metrics.stream_messages.set(held.messages, {"stream": stream})
            metrics.stream_bytes.set(held.size, {"stream": stream})
            metrics.stream_fill.set(held.fill, {"stream": stream})
        await self._paces()
        metrics.measured_at.set(time.time())

    def _sessions(self) -> None:
        states = self.census.states()
        self.states.update(states)
        for state in self.states:
            metrics.sessions_active.set(states.get(state, 0), {"state": state})
        metrics.sessions_longest_wait.set(self.census.longest_wait_s())

    async def _paces(self) -> None:
        began = time.perf_counter()
        now = await self.bus.clock(subjects.PACE)
        metrics.broker_round_trip.record(time.perf_counter() - began)
        for lane, name in self.lanes.items():
            stored = await self.bus.last(subjects.PACE, subject_of(name))
            try:
                pace = Pace() if stored is None else decode(stored.body, Pace)
            except MalformedMessage:  # whoever takes a turn replaces it
                pace = Pace()
            probing = pace.opened and pace.open_until <= now < pace.probe_until
            metrics.site_circuit.set(2 if probing else int(pace.opened > 0), {"lane": lane})
            metrics.site_held.set(max(0.0, pace.held_until - now, pace.open_until - now), {"lane": lane})
            metrics.site_refusals.set(pace.refusals, {"lane": lane})
