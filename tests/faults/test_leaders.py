"""Three replicas, and the server that leads a stream killed in mid-search."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from libs.client.broker import Broker
from libs.common import subjects
from libs.common.bus import Bus, connect
from libs.common.settings import Settings
from libs.common.streams import StreamSettings
from tests.brokers import Cluster
from tests.fake_pinterest import RunningSite
from tests.faults.system import System
from tests.faults.watch import Watch
from tests.wait import wait_for

STREAMS = (subjects.SEARCHES, subjects.RAW, subjects.DIRECT, subjects.RESULTS)


async def test_the_leader_of_each_stream_killed_in_turn_costs_nothing(site: RunningSite, tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        three = StreamSettings(stream_replicas=3)
        async with (
            System(site.origin, cluster.url, streams=three) as system,
            connect(Settings(nats_url=cluster.url), "test") as bus,
        ):
            watches: list[Watch] = []
            left = set(STREAMS)
            while left:
                leaders = {stream: await cluster.leader(bus, stream) for stream in STREAMS}
                leader = leaders[min(left)]
                left -= {stream for stream in STREAMS if leaders[stream] is leader}
                watch = Watch(system.ws_url, f"plates pins:120 size:15 seed:leader{len(watches)} latency:150")
                watches.append(watch)
                await watch.has(5)
                leader.kill()
                await wait_for(partial(led_by_others, cluster, bus, leader), "new leaders")
                leader.launch()
                await wait_for(lambda: current(bus), "all replicas have caught up", timeout_s=60)
            await asyncio.gather(*(watch.exact() for watch in watches))


async def led_by_others(cluster: Cluster, bus: Bus, dead: Broker) -> bool:
    return dead not in [await cluster.leader(bus, stream) for stream in STREAMS]


async def current(bus: Bus) -> bool:
    for stream in STREAMS:
        replicas = (await bus.api(f"STREAM.INFO.{stream}"))["cluster"].get("replicas") or []
        if len(replicas) < 2 or not all(replica["current"] for replica in replicas):
            return False
    return True
