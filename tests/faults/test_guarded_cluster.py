"""Three servers by the committed cluster.conf, three copies of every stream, and one server lost in mid-search."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs.client.broker import Broker, free_port
from libs.common import subjects
from libs.common.bus import Bus, connect
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, streams
from tests.brokers import Cluster
from tests.fake_pinterest import RunningSite
from tests.faults.system import System
from tests.faults.watch import Watch
from tests.guarded import ANY_MONITORING, USERS, guard, key
from tests.guarded_cluster import GuardedCluster
from tests.wait import wait_for


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with GuardedCluster(tmp_path) as cluster:
        yield cluster


async def test_a_server_lost_in_mid_search_costs_no_video_and_repeats_none(
    site: RunningSite, cluster: Cluster, tmp_path: Path
) -> None:
    known = {user: {"nats_nkey_file": key(tmp_path, user)} for user in USERS}
    operator = Settings(nats_url=cluster.url, nats_nkey_file=key(tmp_path, "operator"))
    three = StreamSettings(stream_replicas=3)
    async with (
        System(site.origin, cluster.url, settings=known, streams=three) as system,
        connect(operator, "test") as bus,
    ):
        assert {await copies(bus, str(stream["name"])) for stream in streams(three)} == {3}
        watch = Watch(system.ws_url, "plates pins:60 size:15 seed:guarded-cluster latency:150")
        await watch.has(5)
        lost = await cluster.leader(bus, subjects.RESULTS)
        lost.kill()
        await wait_for(lambda: led_by_another(cluster, bus, lost), "the session log has another leader", timeout_s=30)
        await watch.exact()
        assert lost.process is not None and lost.process.poll() is not None  # it stayed away
        await asyncio.gather(*(system.ready(service) for service in system.services))


async def copies(bus: Bus, stream: str) -> int:
    """How many servers have a stream."""
    found = (await bus.api(f"STREAM.INFO.{stream}"))["cluster"]
    return 1 + len(found.get("replicas") or [])


async def led_by_another(cluster: Cluster, bus: Bus, lost: Broker) -> bool:
    return await cluster.leader(bus, subjects.RESULTS) is not lost


async def test_a_server_that_does_not_know_the_password_of_the_routes_stays_outside(
    cluster: Cluster, tmp_path: Path
) -> None:
    store, listen = tmp_path / "stranger", f"127.0.0.1:{free_port()}"
    first = (cluster.brokers[0].environ or {})["NATS_CLUSTER_LISTEN"]
    guard(store, tmp_path / "other-keys", (first, listen))
    stranger = Broker(
        store,
        log=tmp_path / "stranger.log",
        config=f'include "cluster.conf"\n{ANY_MONITORING}',
        environ={"NATS_SERVER_NAME": "n4", "NATS_CLUSTER_LISTEN": listen},
    )
    stranger.start()
    try:

        async def was_refused() -> bool:
            return "authorization violation" in stranger.log.read_text().lower()

        await wait_for(was_refused, "its route is refused", timeout_s=15)
    finally:
        stranger.stop()
