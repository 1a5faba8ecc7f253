"""The system as queues: processes of one core each on a machine of some, fed by searches.

A discrete-event simulation (SimPy) of what `sessions.py` and `replicas.py` measure: an item waits for its crawler, the
broker, a transformer with its requests to the CDN, dedup and a gateway, each of which is one process, and each process
waits for a core. What is not in it: garbage collection, the broker's disk, batches, and whoever else uses the machine.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from statistics import median
from typing import Any

import msgspec
import simpy

from benchmarks.scaling.costs import CONTEXTS, CROWD, Costs

WINDOW = 200  # items of a session without an outcome
SLOTS = 50  # searches that one crawler reads at once
PROBES = 24  # requests of one transformer to a host at once
MS = 1e-3
LEAST_CORES = 0.2  # are left by others

Step = Generator[simpy.Event, Any, None]


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is searched for, by how many, at how many of each service."""

    searches: int
    items: int  # of each search
    replicas: int = 1
    browser: bool = False
    known: bool = False  # the videos are remembered
    cores: int = 2
    others: float = 0.0  # of these, taken by whoever else uses the machine: every process gets slower by it
    cdn_ms: float = 20.0
    site_ms: float = 80.0
    transformer_only: bool = False
    videos: float = 0.75  # of the items


class Predicted(msgspec.Struct, frozen=True):
    """What comes of it."""

    throughput: float  # items a second
    first_s: float  # to a search's first frame, the median
    latency_s: float  # from emission to frame, the median
    processor_ms: dict[str, float]  # an item, by service


class Process:
    """One core at most at a time, of those that all share."""

    def __init__(self, world: simpy.Environment, cores: simpy.Resource, threads: int = 1, slower: float = 1.0) -> None:
        self._world, self._cores, self._slower = world, cores, slower
        self._lock = simpy.Resource(world, threads)
        self.spent_ms = 0.0

    def work(self, ms: float) -> Step:
        """So much."""
        with self._lock.request() as turn:
            yield turn
            with self._cores.request() as core:
                yield core
                self.spent_ms += ms
                yield self._world.timeout(ms * MS * self._slower)

    @property
    def waiting(self) -> int:
        """How many are at it or wait."""
        return self._lock.count + len(self._lock.queue)


class Machine:
    """Everything that runs on it."""

    def __init__(self, costs: Costs, load: Load, seed: int = 1) -> None:
        self.costs, self.load = costs, load
        self.world = simpy.Environment()
        self.random = random.Random(seed)
        cores = simpy.Resource(self.world, load.cores)
        slower = load.cores / max(LEAST_CORES, load.cores - load.others)

        def some(count: int, threads: int = 1) -> list[Process]:
            return [Process(self.world, cores, threads, slower) for _ in range(count)]

        self.crawlers = some(load.replicas, load.cores if load.browser else 1)
        self.transformers, self.dedups, self.gateways = (some(load.replicas) for _ in range(3))
        self.probes = [simpy.Resource(self.world, PROBES) for _ in range(load.replicas)]
        self.slots = [simpy.Resource(self.world, SLOTS) for _ in range(load.replicas)]
        self.broker, self.client, self.site = some(1, load.cores)[0], some(1)[0], some(1)[0]
        self.contexts: list[list[simpy.Event]] = [[] for _ in range(load.replicas)]
        self.in_hand = [0] * load.replicas  # items at each transformer
        self.latencies: list[float] = []
        self._first: dict[int, float] = {}  # by search
        self.outcomes = 0

    def run(self) -> Predicted:
        """To the last frame."""
        searches = [self.world.process(self._search(n)) for n in range(self.load.searches)]
        self.world.run(until=self.world.all_of(searches))
        return Predicted(
            self.outcomes / self.world.now,
            median(self._first.values()),
            median(self.latencies),
            {name: sum(one.spent_ms for one in some) / self.outcomes for name, some in self._processes().items()},
        )

    def _processes(self) -> dict[str, list[Process]]:
        named = {"crawler": self.crawlers, "transformer": self.transformers, "dedup": self.dedups}
        return {**named, "gateway": self.gateways, "nats": [self.broker], "site": [self.site], "load": [self.client]}

    def _search(self, number: int) -> Step:
        load, costs, replica = self.load, self.costs, number % self.load.replicas
        crawler = self.crawlers[replica]
        with self.slots[replica].request() as slot:
            yield slot
            if load.browser:
                yield from self._context(number)
                yield from crawler.work(costs.crawl_session)
                yield self.world.timeout(load.site_ms * MS)
            if not load.transformer_only:
                yield from self.broker.work(costs.broker_session)
                yield from self.gateways[replica].work(costs.gateway_session)
                self.world.process(self.dedups[replica].work(costs.dedup_session))
            window = simpy.Resource(self.world, WINDOW)
            items = []
            for _ in range(load.items):
                place = window.request()
                yield place
                if not load.transformer_only:
                    yield from crawler.work(costs.crawl_item if load.browser else costs.emit)
                items.append(self.world.process(self._item(window, place, number)))
            yield self.world.all_of(items)

    def _context(self, number: int) -> Step:
        """The first searches of a crawler share the one that is warm, and so many share each that is made then."""
        turn, replica = divmod(number, self.load.replicas)
        made, place = self.contexts[replica], turn // CROWD
        if place < CONTEXTS and turn % CROWD == 0:
            made.append(self.world.event())
            if place:
                yield from self.crawlers[replica].work(self.costs.crawl_context)
            made[place].succeed()
        else:
            yield made[place if place < CONTEXTS else turn % CONTEXTS]

    def _item(self, window: simpy.Resource, place: Any, search: int) -> Step:
        costs, load, emitted_at = self.costs, self.load, self.world.now
        yield from self.broker.work(costs.broker_item / 2)
        yield from self._resolved()
        if load.transformer_only:
            self._done(search, emitted_at, window, place)
            return
        yield from self._least(self.dedups).work(costs.settle)
        yield from self.broker.work(costs.broker_item / 2 + costs.broker_hear * (load.replicas * 2))
        for crawler in self.crawlers:
            self.world.process(crawler.work(costs.hear))
        own = self.gateways[search % load.replicas]
        for gateway in self.gateways:
            if gateway is not own:
                self.world.process(gateway.work(costs.hear))
        if self.random.random() < load.videos:
            yield from own.work(costs.frame)
            self.world.process(self.client.work(costs.client))
        else:
            yield from own.work(costs.hear)
        self._done(search, emitted_at, window, place)

    def _resolved(self) -> Step:
        load = self.load
        number = min(range(load.replicas), key=self.in_hand.__getitem__)
        transformer = self.transformers[number]
        self.in_hand[number] += 1
        yield from self._asked(transformer, number)
        self.in_hand[number] -= 1

    def _asked(self, transformer: Process, number: int) -> Step:
        costs, load = self.costs, self.load
        if load.known:
            yield from transformer.work(costs.resolve_known)
            return
        requests = self._number(costs.requests_at(load.replicas))
        for _ in range(requests):
            with self.probes[number].request() as probe:
                yield probe
                yield from transformer.work(costs.resolve / costs.requests)
                yield from self.site.work(costs.site)
                yield self.world.timeout(load.cdn_ms * MS)
        if not requests:
            yield from transformer.work(costs.resolve_known)

    def _number(self, mean: float) -> int:
        whole = int(mean)
        return whole + (self.random.random() < mean - whole)

    def _done(self, search: int, emitted_at: float, window: simpy.Resource, place: Any) -> None:
        window.release(place)
        self.outcomes += 1
        self.latencies.append(self.world.now - emitted_at)
        self._first.setdefault(search, self.world.now)

    @staticmethod
    def _least(processes: list[Process]) -> Process:
        return min(processes, key=lambda one: one.waiting)


def predict(costs: Costs, load: Load) -> Predicted:
    """What is to be expected of a machine."""
    return Machine(costs, load).run()
