"""The broker of the suite, from one place: NATS_URL if set; a container if TEST_BROKER=container; else the wheel."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import uvloop

from libs.client.broker import Broker
from libs.common.bus import Bus, connect
from libs.common.session_log import SessionLog, session_log
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, set_up

NATS_IMAGE = "nats:2.14-alpine"


def _container() -> Iterator[str]:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    container = DockerContainer(NATS_IMAGE).with_command("-js").with_exposed_ports(4222)
    with container.waiting_for(LogMessageWaitStrategy("Server is ready")) as running:
        yield f"nats://{running.get_container_host_ip()}:{running.get_exposed_port(4222)}"


def _wheel(store: Path) -> Iterator[str]:
    from libs.client.broker import running_broker

    with running_broker(store) as broker:
        yield broker.url


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The broker's address, with the streams set up."""
    if url := os.environ.get("NATS_URL"):
        source: Iterator[str] = iter([url])
    elif os.environ.get("TEST_BROKER") == "container":
        source = _container()
    else:
        source = _wheel(tmp_path_factory.mktemp("jetstream"))
    url = next(source)

    async def streams() -> None:
        async with connect(Settings(nats_url=url), "tests") as bus:
            await set_up(bus, StreamSettings())

    uvloop.run(streams())
    yield url
    next(source, None)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of this test's own."""
    broker = Broker(tmp_path / "jetstream")
    broker.store.mkdir()
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    """A connection of this test's own; after the test no publish is left waiting."""
    async with connect(Settings(nats_url=nats_url), "test") as bus:
        yield bus
        assert not bus._acks


@pytest.fixture
async def log(bus: Bus) -> AsyncIterator[SessionLog]:
    """A session log on it."""
    async with session_log(bus) as log:
        yield log


@pytest.fixture
def session() -> str:
    """The id of a session that no other test uses."""
    return secrets.token_hex(16)


@pytest.fixture
def unused_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(autouse=True)
async def _no_stray_tasks() -> AsyncIterator[None]:
    """After each test nothing that it started is still running."""
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    stray = {task for task in asyncio.all_tasks() - before if not task.done() and not task.cancelling()}
    stray.discard(asyncio.current_task())
    assert not stray, f"tasks left running: {stray}"
