"""A broker whose disk is full."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from libs.client.broker import Broker
from libs.client.errors import RequestRefused
from tests.fake_pinterest import RunningSite
from tests.faults.system import System
from tests.faults.watch import Watch
from tests.wait import wait_until

DISK_MB = 16
MOST_TAKEN = 20  # a file's last page has room for ten requests at most
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
        begun = [Watch(system.ws_url, "vases pins:300 seed:disk latency:200")]
        await begun[0].has(5)
        ballast = fill(disk)
        refused = await asked_until_refused(system, begun)
        assert refused.code == "unavailable"
        assert str(refused)
        for watch in begun:
            await watch.until(partial(is_told, watch), "its client is told what is waited for")
            assert not watch.task.done()
        ballast.unlink()
        broker.kill()
        broker.start()
        begun.append(Watch(system.ws_url, "vases pins:60 seed:room"))
        await asyncio.gather(*(watch.exact(90) for watch in begun))


async def asked_until_refused(system: System, begun: list[Watch]) -> RequestRefused:
    """Why a search is refused at last; the first may still find room in what the broker's files have left."""
    for number in range(MOST_TAKEN):
        watch = Watch(system.ws_url, f"vases pins:20 seed:taken{number}")
        await wait_until(partial(is_answered, watch), "an answer")
        if watch.task.done():
            error = watch.task.exception()
            assert isinstance(error, RequestRefused)
            return error
        begun.append(watch)
    raise AssertionError(f"{MOST_TAKEN} searches were begun on a full disk")


def is_answered(watch: Watch) -> bool:
    return watch.task.done() or watch.search.session_id is not None


def is_told(watch: Watch) -> bool:
    return any(frame.waiting_for for frame in watch.progress)
