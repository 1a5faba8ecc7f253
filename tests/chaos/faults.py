"""Carries out a schedule of faults, and undoes every one of them in the end."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from random import Random

from libs.client.broker import Broker
from libs.common.bus import Bus
from libs.common.errors import PinstreamError
from libs.common.tasks import end
from tests.brokers import Cluster
from tests.chaos.copies import Copies
from tests.chaos.fleet import Fleet
from tests.chaos.schedule import Fault

SLOW_LATENCY_S = 0.03
SLOW_BYTES_PER_S = 300_000
GRACE_S = 5.0  # for what is being undone at the end


class Faults:
    """`injected` counts what was done; `missed` what found nobody to do it to."""

    def __init__(
        self, fleet: Fleet, brokers: list[Broker], cluster: Cluster | None, bus: Bus, copies: Copies, seed: int
    ) -> None:
        self.fleet, self.brokers, self.cluster, self.bus, self.copies = fleet, brokers, cluster, bus, copies
        self.injected: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.diary: list[str] = []
        self._rng = Random(f"{seed} brokers")
        self._copying = 0
        self._began = time.monotonic()

    async def run(self, schedule: list[Fault], seconds: float) -> None:
        """Injects all, and returns after `seconds` when each is undone. Cancelled, it undoes what was done too."""
        self._began = time.monotonic()
        under_way: set[asyncio.Task[None]] = set()
        try:
            for fault in schedule:
                await asyncio.sleep(self._began + fault.at_s - time.monotonic())
                task = asyncio.create_task(self._inject(fault), name=f"{fault.kind} {fault.target}")
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.sleep(max(0.0, self._began + seconds - time.monotonic()))
            if under_way:
                await asyncio.wait(under_way, timeout=GRACE_S)
        finally:
            left = list(under_way)
            await end(*left)
            await self._mend()

    async def _inject(self, fault: Fault) -> None:
        self.diary.append(f"{time.monotonic() - self._began:8.3f} {fault}")
        what = fault.kind
        match fault.kind:
            case "kill" | "terminate" | "stall":
                what = f"{fault.kind} {fault.target.split('-')[0]}"
                done = await self._signalled(fault)
            case "broker":
                done = await self._restarted(self._rng.choice(self.brokers), fault.lasts_s)
            case "leader":
                done = await self._leader(fault)
                what = f"leader of {fault.target}"
            case "outage" | "cut" | "slow":
                what = f"{fault.kind}{' (hole)' if fault.hole and fault.kind != 'slow' else ''}"
                done = await self._network(fault)
            case "copies":
                done = await self._copied(fault.lasts_s)
            case "consumer":
                what = f"consumer {fault.target} deleted"
                done = await self._deleted(fault.target)
            case other:
                raise AssertionError(other)
        (self.injected if done else self.missed)[what] += 1

    async def _signalled(self, fault: Fault) -> bool:
        if fault.kind != "stall":
            return self.fleet.signal(fault.target, signal.SIGKILL if fault.kind == "kill" else signal.SIGTERM)
        child = self.fleet.replicas[fault.target].child
        if child is None or not child.signal(signal.SIGSTOP):
            return False
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            child.signal(signal.SIGCONT)
        return True

    async def _restarted(self, broker: Broker, after_s: float) -> bool:
        if broker.process is None or broker.process.poll() is not None:
            return False
        broker.kill()
        try:
            await asyncio.sleep(after_s)
        finally:
            broker.launch()
        return True

    async def _leader(self, fault: Fault) -> bool:
        assert self.cluster is not None
        try:
            leader = await self.cluster.leader(self.bus, fault.target)
        except PinstreamError:
            return False
        if any(broker.process is None or broker.process.poll() is not None for broker in self.brokers):
            return False  # another is away: without two there is no quorum, which is the outages' part
        return await self._restarted(leader, fault.lasts_s)

    async def _network(self, fault: Fault) -> bool:
        everywhere = fault.target in ("", "all")
        replicas = list(self.fleet.replicas.values()) if everywhere else [self.fleet.replicas[fault.target]]
        for replica in replicas:
            if fault.kind == "slow":
                replica.proxy.slow(SLOW_LATENCY_S, SLOW_BYTES_PER_S)
            else:
                await replica.proxy.cut(hole=fault.hole)
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            for replica in replicas:
                if fault.kind == "slow":
                    replica.proxy.slow()
                else:
                    await replica.proxy.mend()
        return True

    async def _copied(self, lasts_s: float) -> bool:
        self._copying += 1
        self.copies.on = True
        try:
            await asyncio.sleep(lasts_s)
        finally:
            self._copying -= 1
            self.copies.on = self._copying > 0
        return True

    async def _deleted(self, target: str) -> bool:
        try:
            await self.bus.api(f"CONSUMER.DELETE.{target}", patience_s=2.0)
        except PinstreamError:
            return False
        return True

    async def _mend(self) -> None:
        for broker in self.brokers:
            if broker.process is not None and broker.process.poll() is not None:
                broker.launch()
        for replica in self.fleet.replicas.values():
            replica.proxy.slow()
            await replica.proxy.mend()
            self.fleet.signal(replica.name, signal.SIGCONT)
