"""A cell of a plan under sessions that arrive by chance: what its queues add to each video's way (SimPy)."""

from __future__ import annotations

import random
from statistics import mean

import msgspec
import simpy

from benchmarks.scaling.costs import Costs
from benchmarks.scaling.curve import percentiles
from benchmarks.scaling.model import MS, SLOTS, Process, Step
from benchmarks.scaling.plan import CONTEXTS_PER_S, CRAWLER_CORES, SERVERS, Plan

BATCH = 5  # items that go together, so that a million sessions are simulated within seconds
SECONDS, WARM_UP = 600.0, 0.2  # of which not counted: where the pace is nearly all used, queues grow for minutes
BURST = 4  # requests to the site that may go at once after a pause
CDN_MS, SITE_MS = 20.0, 80.0
MOST_ITEMS = 25_000  # simulated: of a cell with many a shorter time


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen, in ms: from a video's emission to its frame, and from a request to its first frame."""

    p50_ms: float
    p99_ms: float
    first_p50_ms: float
    first_p99_ms: float
    turn_ms: float  # that a request to the site waits for its turn, the mean
    sessions: int


class Cell:
    """One cell with the pods of a plan, each a machine of its own."""

    def __init__(self, costs: Costs, plan: Plan, seed: int) -> None:
        self.costs, self.plan, self.random = costs, plan, random.Random(seed)
        self.world = simpy.Environment()
        self.a_second = plan.asked.sessions_an_hour / 3600 / plan.cells
        self.items = round(plan.asked.videos * costs.items_per_video)
        records = self.a_second * (self.items + 6)
        self.slowed = 1 / max(0.05, 1 - records * costs.hear * MS)  # what is left of a process that hears all records
        self.crawlers = self._some(plan.pods["crawler"], int(CRAWLER_CORES))
        self.transformers = self._some(plan.pods["transformer"])
        self.dedups = self._some(plan.pods["dedup"])
        self.gateways = self._some(plan.pods["gateway"])
        self.broker = self._some(1, SERVERS * plan.server_vcpu)[0]
        self.slots = [simpy.Resource(self.world, SLOTS) for _ in self.crawlers]
        self.contexts = min(1.0, CONTEXTS_PER_S * plan.pods["crawler"] / self.a_second)  # that are made, a session
        self.interval_s = plan.cells / plan.asked.pace
        self._full_at = 0.0  # when the allowance of requests to the site is whole again
        self.seconds = min(SECONDS, MOST_ITEMS / (self.a_second * self.items))
        self.warm_up_s = WARM_UP * self.seconds
        self.latencies: list[float] = []
        self.firsts: list[float] = []
        self.turns: list[float] = []

    def _some(self, count: int, cores: int = 1) -> list[Process]:
        return [Process(self.world, simpy.Resource(self.world, cores), cores) for _ in range(count)]

    def run(self) -> Flow:
        """For a while, the first of it not counted."""
        self.world.process(self._arrivals())
        self.world.run(until=self.seconds)
        p50, p99 = percentiles(self.latencies)
        first, first_p99 = percentiles(self.firsts)
        return Flow(
            p50_ms=round(p50, 1),
            p99_ms=round(p99, 1),
            first_p50_ms=round(first, 1),
            first_p99_ms=round(first_p99, 1),
            turn_ms=round(1000 * mean(self.turns), 1),
            sessions=len(self.firsts),
        )

    def _arrivals(self) -> Step:
        while True:
            yield self.world.timeout(self.random.expovariate(self.a_second))
            self.world.process(self._session())

    def _session(self) -> Step:
        costs, asked_at = self.costs, self.world.now
        number = min(range(len(self.slots)), key=lambda one: self.slots[one].count + len(self.slots[one].queue))
        gateway, first = self.random.choice(self.gateways), self.world.event()
        with self.slots[number].request() as slot:
            yield slot
            yield from gateway.work(costs.gateway_session * self.slowed)
            yield from self.broker.work(costs.broker_session * costs.copies)
            yield from self.crawlers[number].work(costs.crawl_session)
            if self.random.random() < self.contexts:  # one is made in the place of the one that was warm
                self.world.process(self.crawlers[number].work(costs.crawl_context))
            for _ in range(self.plan.asked.pages):
                yield from self._turn()
                yield self.world.timeout(SITE_MS * MS)
            batches = []
            for done in range(0, self.items, BATCH):
                size = min(BATCH, self.items - done)
                yield from self.crawlers[number].work(costs.crawl_item * size)
                batches.append(self.world.process(self._batch(size, gateway, first)))
            yield first
            if asked_at >= self.warm_up_s:
                self.firsts.append(self.world.now - asked_at)
            yield self.world.all_of(batches)

    def _turn(self) -> Step:
        """As `libs/common/pace.py` gives them."""
        now = self.world.now
        wait_s = max(now, self._full_at - (BURST - 1) * self.interval_s) - now
        self._full_at = max(self._full_at, now) + self.interval_s
        if now >= self.warm_up_s:
            self.turns.append(wait_s)
        yield self.world.timeout(wait_s)

    def _batch(self, size: int, gateway: Process, first: simpy.Event) -> Step:
        costs, emitted_at = self.costs, self.world.now
        half = size * costs.broker_item * costs.copies / 2
        yield from self.broker.work(half)
        transformer = min(self.transformers, key=lambda one: one.waiting)
        yield from transformer.work(size * costs.resolve_at(len(self.transformers)))
        yield self.world.timeout(costs.requests_at(len(self.transformers)) * CDN_MS * MS)
        yield from min(self.dedups, key=lambda one: one.waiting).work(size * costs.settle)
        followers = len(self.gateways) + len(self.crawlers)
        yield from self.broker.work(half + size * costs.broker_hear * followers)
        videos = size / costs.items_per_video
        yield from gateway.work(videos * costs.frame * self.slowed)
        if not first.triggered:
            first.succeed()
        if emitted_at >= self.warm_up_s:
            self.latencies.append(self.world.now - emitted_at)


def flow(costs: Costs, plan: Plan, seed: int = 7) -> Flow:
    """What a video's way takes in such a cell."""
    return Cell(costs, plan, seed).run()
