"""Keys of the broker's users are replaced while services and servers run, as docs/nats.md says."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from libs.common import broker_keys, subjects
from libs.common.bus import Bus, connect
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, streams
from tests.guarded import guarded_broker, key
from tests.guarded_cluster import GuardedCluster
from tests.wait import wait_for, wait_until

UNKNOWN = "it does not know the key of NATS_NKEY_FILE"


def replaced(keys: Path, routes: tuple[str, ...] = ()) -> None:
    """Makes new ones for all, and a new password of the routes, in the place of those that are there."""
    shutil.rmtree(keys)
    broker_keys.make(keys, routes)


@pytest.mark.parametrize("late", [False, True], ids=["before the servers", "after the servers"])
async def test_a_service_is_known_by_its_new_key_without_a_restart(late: bool, tmp_path: Path) -> None:
    broker = guarded_broker(tmp_path)
    broker.start()
    mounted = tmp_path / "nkey"
    shutil.copy(key(tmp_path, "gateway"), mounted)
    try:
        async with connect(Settings(nats_url=broker.url, nats_nkey_file=str(mounted)), "gateway") as bus:
            replaced(tmp_path / "keys")
            if not late:
                _renew(mounted, tmp_path)
            with capture_logs() as logs:
                await asyncio.to_thread(broker.stop)
                broker.start()
                if late:
                    await wait_until(lambda: any(line.get("error") == UNKNOWN for line in logs), "it is refused")
                    _renew(mounted, tmp_path)
                await wait_until(lambda: bus.reconnects == 1, "connected again")
        assert late or not [line for line in logs if line.get("error") == UNKNOWN]
    finally:
        await asyncio.to_thread(broker.stop)


def _renew(mounted: Path, folder: Path) -> None:
    mounted.unlink()
    shutil.copy(key(folder, "gateway"), mounted)


@pytest.mark.skipif(sys.platform == "win32", reason="a server is told to reload by a signal")
async def test_servers_that_reload_new_keys_stay_a_cluster_and_have_one_back_that_restarts(tmp_path: Path) -> None:
    """One that restarts before the others have reloaded would know another password than they, and stay outside."""
    [wanted] = [one for one in streams(StreamSettings(stream_replicas=3)) if one["name"] == subjects.RESULTS]
    async with (
        GuardedCluster(tmp_path) as cluster,
        connect(Settings(nats_url=cluster.url, nats_nkey_file=key(tmp_path, "streams")), "streams") as bus,
    ):
        await bus.api(f"STREAM.CREATE.{subjects.RESULTS}", wanted)
        routes = tuple((broker.environ or {})["NATS_CLUSTER_LISTEN"] for broker in cluster.brokers)
        replaced(tmp_path / "keys", routes)
        for broker in cluster.brokers:
            assert broker.process is not None
            broker.process.send_signal(signal.SIGHUP)
        await wait_until(lambda: bus.reconnects >= 1, "known by the new key")
        await asyncio.to_thread(cluster.brokers[0].stop)
        cluster.brokers[0].start()
        await wait_for(partial(_on_all, bus), "all three have it", timeout_s=20)


async def _on_all(bus: Bus) -> bool:
    found = (await bus.api(f"STREAM.INFO.{subjects.RESULTS}"))["cluster"]
    named = {found.get("leader"), *(peer["name"] for peer in found["replicas"] if peer["current"])}
    return named == {"n1", "n2", "n3"}
