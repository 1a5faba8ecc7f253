"""What each service takes of the processors while something is measured."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress

import psutil

from benchmarks.scaling.curve import Point
from libs.client.local import LocalStack
from libs.common.tasks import end
from services.crawler.footprint import footprint_mb, tree_of

LOAD = "load"  # this process and those that it makes load with
NOTED_EVERY_S = 0.5


class Meter:
    """By name, the trees of processes that are counted; this process, and `load`, count as `load`."""

    def __init__(self, of: Mapping[str, Iterable[int]], load: Iterable[int] = ()) -> None:
        self.of = {name: list(pids) for name, pids in of.items()}
        self._load = list(load)
        self._seen: dict[str, dict[psutil.Process, float]] = {}  # seconds of each, by name; some have ended
        self.start()

    def start(self) -> None:
        """From now on."""
        self._before, self._at = self._spent(), time.monotonic()
        self._machine = psutil.cpu_times()

    def tell(self, point: Point, items: float, took_s: float | None = None) -> None:
        """Gives `point` what was taken since `start`: cores and ms of processor an item, and others' cores.

        `took_s` where the work took less than the time since.
        """
        since_s = time.monotonic() - self._at
        took_s = took_s or since_s
        after, machine = self._spent(), psutil.cpu_times()
        for name, spent in after.items():
            used_s = spent - self._before[name]
            point.saw(**{f"cores {name}": used_s / took_s, f"cpu ms {name}": 1000 * used_s / max(items, 1)})
        ours_s = sum(spent - self._before[name] for name, spent in after.items())
        point.saw(**{"cores others": max(0.0, (_used_s(self._machine, machine) - ours_s) / since_s)})

    @asynccontextmanager
    async def noting(self) -> AsyncIterator[None]:
        """Counts what processes take that end meanwhile: nobody tells of a renderer of Chromium afterwards."""

        async def note() -> None:
            while True:
                await asyncio.sleep(NOTED_EVERY_S)
                self._spent()

        noting = asyncio.create_task(note(), name="note processes")
        try:
            yield
        finally:
            await end(noting)

    def memory(self, point: Point, *names: str) -> None:
        """Gives `point` how many MB the processes of these names have, all together."""
        for name in names:
            point.saw(**{f"mb {name}": sum(map(footprint_mb, self.of[name]))})

    def _spent(self) -> dict[str, float]:
        trees = {name: [process for pid in pids for process in tree_of(pid)] for name, pids in self.of.items()}
        trees[LOAD] = [psutil.Process(os.getpid()), *(process for pid in self._load for process in tree_of(pid))]
        for name, processes in trees.items():
            seen = self._seen.setdefault(name, {})
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    seen[process] = sum(process.cpu_times()[:2])
        return {name: sum(seen.values()) for name, seen in self._seen.items()}


def pids(stack: LocalStack) -> dict[str, list[int]]:
    """The processes of a stack by service, the broker's as `nats`."""
    assert stack.broker is not None and stack.broker.process is not None, "the broker is one of NATS_URL"
    of: dict[str, list[int]] = {"nats": [stack.broker.process.pid]}
    for service in stack.services:
        of.setdefault(service.service, []).append(service.pid)
    return of


def _used_s(before: object, after: object) -> float:
    """Seconds of processor that the machine was not idle in, whoever used it."""
    spent = {name: getattr(after, name) - getattr(before, name) for name in before._fields}  # type: ignore[attr-defined]
    return float(sum(value for name, value in spent.items() if name not in ("guest", "guest_nice", "idle", "iowait")))
