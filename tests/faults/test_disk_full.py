"""A broker whose disk is full."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from libs.client.broker import Broker
from libs.client.client import Client
from libs.client.errors import RequestRefused
from tests.fake_pinterest import RunningSite
from tests.faults.system import System
from tests.faults.watch import Watch

DISK_MB = 16
CONFIG = "jetstream { max_file_store: 100GB }\n"  # else the streams' bounds would not fit this disk at all


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def broker(disk: Path, tmp_path: Path) -> Iterator[Broker]:
    """A broker on it."""
    broker = Broker(disk, log=tmp_path / "nats-server.log", config=CONFIG)
    broker.start()
    yield broker
    broker.stop()


def fill(disk: Path) -> Path:
    """A file that takes all the room there is."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(os.urandom(4096))
    return ballast


async def test_a_full_disk_is_told_to_clients_and_costs_the_sessions_that_had_begun_nothing(
    site: RunningSite, broker: Broker, disk: Path
) -> None:
    async with System(site.origin, broker.url) as system:
        watch = Watch(system.ws_url, "vases pins:300 seed:disk latency:200")
        await watch.has(5)
        ballast = fill(disk)
        with pytest.raises(RequestRefused) as refused:
            async with asyncio.timeout(60):
                while True:  # what the broker's files have room for may still be taken
                    async for _ in Client(system.ws_url).search("vases pins:1 seed:refused", limit=1):
                        pass
        assert refused.value.code == "unavailable"
        assert str(refused.value)
        await watch.until(lambda: any(frame.waiting_for for frame in watch.progress), "it is told what is waited for")
        assert not watch.task.done()
        ballast.unlink()
        broker.kill()
        broker.start()
        after = Watch(system.ws_url, "vases pins:60 seed:room")
        await asyncio.gather(watch.exact(90), after.exact(90))
