"""1 to 64 processes that follow the session log: what each further one costs the broker, and what it costs itself.

Every gateway and every crawler follows the whole log, to the records of its own sessions and of all others.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from benchmarks.feeder import Feeder
from benchmarks.scaling.curve import Curve, Point, percentiles
from benchmarks.scaling.meter import Meter
from benchmarks.worker import Worker
from libs.client.broker import running_broker
from libs.common.bus import Stored, connect
from libs.common.session_log import SessionLog, session_log
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, set_up

SESSIONS = 20
STEADY_PER_S = 400.0
QUIET_S = 1.0


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How many followers, how often, and how many records."""

    followers: tuple[int, ...] = (1, 4, 16, 64)
    runs: int = 5
    records: int = 4_000
    seconds: float = 3.0


QUICK = Sizes(followers=(1, 4), runs=1, records=500, seconds=1.0)


class Followers:
    """Connections of one process, each of which follows the log as a gateway does; nobody of theirs is interested."""

    def __init__(self, nats_url: str) -> None:
        self._settings = Settings(nats_url=nats_url)
        self._running = AsyncExitStack()
        self._logs: list[SessionLog] = []
        self._last: list[float] = []
        self._heard: dict[int, float] = {}

    async def follow(self, count: int) -> None:
        """Until there are so many."""
        while len(self._logs) < count:
            bus = await self._running.enter_async_context(connect(self._settings, "gateway"))
            log = await self._running.enter_async_context(session_log(bus))
            log.listeners.append(self._note)
            self._logs.append(log)

    async def heard(self) -> list[float]:
        """When each record had come to the last follower, once none has come for a while; then they are forgotten."""
        before, now = -1, self._count()
        while before != now:
            await asyncio.sleep(QUIET_S)
            before, now = now, self._count()
        at, self._heard = [self._heard[sequence] for sequence in sorted(self._heard)], {}
        return at

    def _count(self) -> int:
        return sum(log.tail.tally.done for log in self._logs)

    def _note(self, stored: Stored) -> None:
        self._heard[stored.sequence] = time.monotonic()


async def followers(sizes: Sizes) -> Curve:
    """Records as dedup writes them, as fast as the broker takes them and at leisure."""
    points = []
    sessions = [f"{n:032x}" for n in range(SESSIONS)]
    with tempfile.TemporaryDirectory() as name, running_broker(Path(name)) as broker:
        async with connect(Settings(nats_url=broker.url), "set up") as bus:
            await set_up(bus, StreamSettings(results_max_bytes=4 * 2**30))
        with Worker(Followers, broker.url) as following, Worker(Feeder, broker.url) as feeder:
            assert broker.process is not None
            of = {"nats": [broker.process.pid], "followers": [following.pid], "feeder": [feeder.pid]}
            meter = Meter(of)
            for count in sizes.followers:
                point = Point(x=count, label=f"{count} follower{'s' * (count > 1)}")
                await following.call("follow", count)
                for _ in range(sizes.runs):
                    point.begins()
                    meter.start()
                    written = await feeder.call("feed", sessions, [(0.0, n % SESSIONS) for n in range(sizes.records)])
                    heard = await following.call("heard")
                    took_s = max(heard) - min(one[1] for one in written)
                    meter.tell(point, sizes.records, took_s)
                    point.add("throughput", "records/s", sizes.records / took_s)
                plan = [(n / STEADY_PER_S, n % SESSIONS) for n in range(int(STEADY_PER_S * sizes.seconds))]
                for _ in range(sizes.runs):
                    written = await feeder.call("feed", sessions, plan)
                    heard = await following.call("heard")
                    sent = sorted(one[1] for one in written)
                    p50, p99 = percentiles([at - begun for at, begun in zip(sorted(heard), sent, strict=True)])
                    point.add("p50", "ms", p50)
                    point.add("p99", "ms", p99)
                points.append(point)
    title = "Followers of the session log: records heard by all of them"
    settings = {"steady_per_s": STEADY_PER_S}
    return Curve(name="followers", title=title, grows="followers", points=points, settings=settings, log=True)
