"""The memory of each part of the system, sampled while it runs, and whether it grew."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import psutil

from libs.client.local import LocalStack
from services.crawler.footprint import footprint, tree_of

EVERY_S = 10.0
MOST_GROWTH = 0.10
WINDOW_S = 600.0  # of a run that is long enough, else a third of it: longer than a browser lives at full load
PARTS = ("gateway", "crawler", "driver", "chromium", "transformer", "dedup")
FOR_INFORMATION = ("nats-server",)

Sample = dict[str, float]  # MB by part


class Windows(NamedTuple):
    """Seconds since the start: the level after warm-up is taken in `first`, that at the end in `last`."""

    first: tuple[float, float]
    last: tuple[float, float]


class Growth(NamedTuple):
    """MB of one part in both windows; `share` is what it grew by, 0.1 being ten percent."""

    part: str
    warm_mb: float
    last_mb: float

    @property
    def share(self) -> float:
        return self.last_mb / self.warm_mb - 1 if self.warm_mb else 0.0

    @property
    def flat(self) -> bool:
        """Whether it was there and did not grow by more than is borne."""
        return self.warm_mb > 0 and self.share <= MOST_GROWTH


def windows(length_s: float) -> Windows:
    """Those of a run of `length_s`: as long as the warm-up, which comes before the first."""
    window_s = min(WINDOW_S, length_s / 3)
    return Windows((window_s, 2 * window_s), (length_s - window_s, length_s))


def sample(stack: LocalStack) -> Sample:
    """What each part takes now, over all replicas."""
    found: Sample = defaultdict(float)
    for service in stack.services:
        for process in tree_of(service.pid):
            found[_part(service.service, service.pid, process)] += footprint(process) / 2**20
    if stack.broker is not None and stack.broker.process is not None:
        found["nats-server"] = footprint(psutil.Process(stack.broker.process.pid)) / 2**20
    return dict(found)


def _part(service: str, pid: int, process: psutil.Process) -> str:
    if service != "crawler" or process.pid == pid:
        return service
    try:
        name = process.name()
    except psutil.NoSuchProcess:
        return service
    return "driver" if "node" in name else "chromium" if "chrom" in name or "headless" in name else service


class Memory:
    """The samples of a run, by seconds since its start."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, Sample]] = []

    async def watch(self, stack: LocalStack, told: Callable[[float, Sample], None]) -> None:
        """Samples until cancelled, and tells of each."""
        started = time.monotonic()
        while True:
            at_s = time.monotonic() - started
            found = await asyncio.to_thread(sample, stack)
            self.samples.append((at_s, found))
            told(at_s, found)
            await asyncio.sleep(max(0.0, started + len(self.samples) * EVERY_S - time.monotonic()))

    def growth(self, length_s: float) -> list[Growth]:
        """That of every part, between the medians of the two windows."""
        first, last = windows(length_s)
        return [Growth(part, self._level(part, first), self._level(part, last)) for part in (*PARTS, *FOR_INFORMATION)]

    def _level(self, part: str, window: tuple[float, float]) -> float:
        values = [found.get(part, 0.0) for at_s, found in self.samples if window[0] <= at_s <= window[1]]
        return median(values) if values else 0.0
