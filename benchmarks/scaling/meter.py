"""What each service takes of the processors while something is measured."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping

import psutil

from benchmarks.bench_footprint import processor_s
from benchmarks.scaling.curve import Point
from libs.client.local import LocalStack
from services.crawler.footprint import footprint_mb

LOAD = "load"  # this process and those that it makes load with


class Meter:
    """By name, the trees of processes that are counted; this process, and `load`, count as `load`."""

    def __init__(self, of: Mapping[str, Iterable[int]], load: Iterable[int] = ()) -> None:
        self.of = {name: list(pids) for name, pids in of.items()}
        self._load = list(load)
        self.start()

    def start(self) -> None:
        """From now on."""
        self._before, self._at = self._spent(), time.monotonic()
        self._machine = psutil.cpu_times()

    def tell(self, point: Point, items: float, took_s: float | None = None) -> None:
        """Gives `point` what was taken since `start`: cores and ms of processor an item, and others' cores.

        `took_s` where the work took less than the time since.
        """
        took_s = took_s or time.monotonic() - self._at
        after, machine = self._spent(), psutil.cpu_times()
        for name, spent in after.items():
            used_s = spent - self._before[name]
            point.saw(**{f"cores {name}": used_s / took_s, f"cpu ms {name}": 1000 * used_s / max(items, 1)})
        ours_s = sum(spent - self._before[name] for name, spent in after.items())
        point.saw(**{"cores others": max(0.0, (_used_s(self._machine, machine) - ours_s) / took_s)})

    def memory(self, point: Point, *names: str) -> None:
        """Gives `point` how many MB the processes of these names have, all together."""
        for name in names:
            point.saw(**{f"mb {name}": sum(map(footprint_mb, self.of[name]))})

    def _spent(self) -> dict[str, float]:
        own = psutil.Process(os.getpid()).cpu_times()
        spent = {name: sum(map(processor_s, pids)) for name, pids in self.of.items()}
        return spent | {LOAD: own.user + own.system + sum(map(processor_s, self._load))}


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
