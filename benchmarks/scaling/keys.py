"""A session log of a thousand to a million keys: what a claim, a repeat, a replay and a restart take at each size."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import msgspec

from benchmarks.feeder import video
from benchmarks.scaling.curve import Curve, Point, percentiles
from benchmarks.scaling.meter import Meter
from libs.client.broker import Broker
from libs.common import subjects
from libs.common.bus import Bus, connect
from libs.common.errors import AlreadyExists
from libs.common.messages import VideoRecord, encode
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, set_up
from tests.brokers import Cluster
from tests.wait import wait_until

SESSION_KEYS = 200
IN_FLIGHT, FILLING = 64, 256
EXTRA = 10**9  # numbers of keys that are there for a run only
MOST_BYTES = 8 * 2**30
READY_S = 60.0


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How many keys, how often, and how much is done at each size."""

    keys: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    runs: int = 5
    claims: int = 3_000
    alone: int = 200


QUICK = Sizes(keys=(1_000, 10_000), runs=2, claims=500, alone=50)


class Log:
    """The session log of a broker; keys are numbered, 200 a session."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.numbers = itertools.count()

    async def claim(self, number: int) -> None:
        """Creates a key as dedup does; raises AlreadyExists."""
        record = VideoRecord(item=f"{number}-0", video=video(number))
        subject = subjects.record(session_of(number), subjects.VIDEO, record.video.id)
        await self.bus.publish(subject, encode(record), create=True)

    async def claimed(self, number: int) -> None:
        """Likewise; a claim that was sent again, because its answer was late, may find itself."""
        with suppress(AlreadyExists):
            await self.claim(number)

    async def fill(self, upto: int, at: int) -> int:
        """Claims until there are so many; returns how many there are."""
        await many(self.claimed, iter(range(at, upto)), FILLING)
        return max(at, upto)

    async def replay(self, number: int) -> int:
        """Reads the whole session of a key."""
        pattern = subjects.records_of(session_of(number))
        return len(await self.bus.read(subjects.RESULTS, pattern, 1, SESSION_KEYS * 2))


def session_of(number: int) -> str:
    """The session whose key it is."""
    return f"{number // SESSION_KEYS:032x}"


async def many(do: Callable[[int], Awaitable[None]], numbers: Iterator[int], at_once: int) -> None:
    """Does it for all numbers, so many at once."""

    async def some() -> None:
        for number in numbers:
            await do(number)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(some())


async def keys(sizes: Sizes) -> Curve:
    """One broker, filled further and further."""
    points = []
    with tempfile.TemporaryDirectory() as name:
        broker = Broker(Path(name))
        broker.start()
        try:
            settings = Settings(nats_url=broker.url)
            async with connect(settings, "benchmark") as bus:
                await set_up(bus, StreamSettings(results_max_bytes=MOST_BYTES))
                log, there = Log(bus), 0
                for count in sizes.keys:
                    point = Point(x=count, label=f"{count:,} keys")
                    there = await log.fill(count, there)
                    await _measured(point, log, broker, there, sizes)
                    state = (await bus.api(f"STREAM.INFO.{subjects.RESULTS}"))["state"]
                    point.saw(**{"disk mb": state["bytes"] / 2**20, "keys": state["messages"]})
                    point.add("restart", "s", await _restarted(bus, broker))
                    points.append(point)
        finally:
            broker.stop()
    title = "Session log: claims by the number of keys"
    settings_ = {"key_bytes": len(encode(VideoRecord(item="0-0", video=video(0)))), "session_keys": SESSION_KEYS}
    return Curve(name="keys", title=title, grows="keys", points=points, settings=settings_, log=True)


async def _measured(point: Point, log: Log, broker: Broker, there: int, sizes: Sizes) -> None:
    assert broker.process is not None
    meter = Meter({"nats": [broker.process.pid]})
    for run in range(sizes.runs):
        point.begins()
        await _claims(point, log, meter, there, sizes)
        again = [await _timed(_refused(log, (run * sizes.alone + n) % there)) for n in range(sizes.alone)]
        point.add("repeat, p50", "ms", percentiles(again)[0])
        step = max(1, there // 20)
        replays = [await _timed(log.replay(number)) for number in range(0, max(1, there - SESSION_KEYS), step)]
        point.add("replay of 200, p50", "ms", percentiles(replays)[0])
    meter.memory(point, "nats")


async def _claims(point: Point, log: Log, meter: Meter, there: int, sizes: Sizes) -> None:
    """Claims keys as fast as it goes, then one by one, and removes them again."""
    claims = min(sizes.claims, max(SESSION_KEYS, there // 5))
    meter.start()
    began = time.monotonic()
    await many(log.claimed, iter(range(EXTRA, EXTRA + claims)), IN_FLIGHT)
    took_s = time.monotonic() - began
    meter.tell(point, claims, took_s)
    point.add("throughput", "claims/s", claims / took_s)
    alone = range(EXTRA + claims, EXTRA + claims + sizes.alone)
    p50, p99 = percentiles([await _timed(log.claimed(number)) for number in alone])
    point.add("p50", "ms", p50)
    point.add("p99", "ms", p99)
    for session in {session_of(number) for number in range(EXTRA, alone.stop)}:
        await log.bus.api(f"STREAM.PURGE.{subjects.RESULTS}", {"filter": subjects.records_of(session)})


async def servers(sizes: Sizes) -> Curve:
    """The same claims at one server, and at three that all keep a copy, all on this machine."""
    points = []
    for count in (1, 3):
        point = Point(x=count, label=f"{count} server{'s' * (count > 1)}")
        async with AsyncExitStack() as running:
            store = Path(running.enter_context(tempfile.TemporaryDirectory()))
            cluster: Cluster | _Single = Cluster(store, size=count) if count > 1 else _Single(store)
            await running.enter_async_context(cluster)
            bus = await running.enter_async_context(connect(Settings(nats_url=cluster.url), "benchmark"))
            await set_up(bus, StreamSettings(stream_replicas=count))
            log, meter = Log(bus), Meter({"nats": [one.process.pid for one in cluster.brokers if one.process]})
            there = await log.fill(5 * sizes.claims, 0)
            for _ in range(sizes.runs):
                point.begins()
                await _claims(point, log, meter, there, sizes)
        points.append(point)
    title = "Session log: claims at one server and at three with three copies"
    return Curve(name="servers", title=title, grows="servers", points=points)


class _Single:
    """One broker in the place of a cluster."""

    def __init__(self, store: Path) -> None:
        self.brokers = [Broker(store)]
        self.url = self.brokers[0].url

    async def __aenter__(self) -> _Single:
        self.brokers[0].start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.brokers[0].stop()


async def _refused(log: Log, number: int) -> None:
    try:
        await log.claim(number)
    except AlreadyExists:
        return
    raise AssertionError(f"key {number} was claimed twice")


async def _timed(work: Awaitable[object]) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began


async def _restarted(bus: Bus, broker: Broker) -> float:
    """Seconds from the broker's start, after it was killed, until it takes connections, its streams recovered."""
    reconnects = bus.reconnects
    broker.kill()
    began = time.monotonic()
    broker.start()
    took_s = time.monotonic() - began
    await wait_until(lambda: bus.reconnects > reconnects, "the connection is back", READY_S)
    return took_s
