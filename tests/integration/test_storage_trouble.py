"""What clients hear when the broker cannot store, and how all goes on once it can: with real gateways and servers."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, nullcontext, suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from libs.client.broker import Broker
from libs.client.client import Client
from libs.client.doctor import check_disk, room_for
from libs.client.errors import RequestRefused
from libs.common import subjects
from libs.common.bus import Bus
from libs.common.bus import connect as broker_connection
from libs.common.errors import BrokerUnavailable, PublishRefused
from libs.common.frames import ErrorFrame, Progress, VideoFrame
from libs.common.refusal import ApiRefused
from libs.common.session_log import SessionLog, session_log
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, set_up
from tests.integration.gateway_process import (
    GatewayProcess,
    ask,
    begun,
    finish,
    give,
    give_many,
    receive,
    receive_event,
    to_completed,
)
from tests.wait import wait_until

CHECK_S = 0.5
ANSWER_S = 6.5  # "within about five seconds", on a busy machine
PADDING = 20_000
SMALL = StreamSettings(results_max_bytes=1024 * 1024)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    yield from running(tmp_path / "jetstream")


def running(store: Path) -> Iterator[Broker]:
    broker = Broker(store, log=store.parent / "nats-server.log")
    store.mkdir(parents=True)
    broker.start()
    yield broker
    if broker.process is not None:
        broker.process.send_signal(signal.SIGCONT)
    broker.stop()


@asynccontextmanager
async def system(
    broker: Broker, folder: Path, streams: StreamSettings | None = None
) -> AsyncIterator[tuple[SessionLog, GatewayProcess]]:
    async with broker_connection(Settings(nats_url=broker.url), "test") as bus:
        await set_up(bus, streams or StreamSettings())
        async with session_log(bus) as log, GatewayProcess(broker.url, folder, storage_check_s=CHECK_S) as gateway:
            yield log, gateway


async def refused_search(gateway: GatewayProcess) -> tuple[str, float]:
    """What a new search is told, and after how many seconds."""
    async with connect(gateway.url) as client:
        started = time.monotonic()
        await ask(client, "initiate_extraction", search_query="anything")
        refused = await receive_event(client, "error")
        assert (refused["code"], refused["retry_after_s"] > 0) == ("unavailable", True)
        return refused["message"], time.monotonic() - started


async def fill(bus: Bus, padding: int) -> None:
    """Stores until it is refused, or not acknowledged."""
    stray = secrets.token_hex(16)
    body = b"x" * padding
    with suppress(BrokerUnavailable, PublishRefused):
        for n in range(100_000):
            await bus.publish(subjects.record(stray, subjects.VIDEO, f"{n:032x}"), body, patience_s=0)


class Disk:
    """A file system of its own that can be made full, and larger."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self._mount("-t", "tmpfs", "-o", "size=4g", "tmpfs")  # the server wants to see room for its limits

    def size(self, size: str) -> None:
        self._mount("-o", f"remount,size={size}")

    def _mount(self, *arguments: str) -> None:
        subprocess.run(["mount", *arguments, str(self.place)], check=True, capture_output=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self.place)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a disk that can be filled")
    try:
        disk = Disk(tmp_path / "disk")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no disk can be mounted here: {error.stderr!r}")
    yield disk
    disk.unmount()


@pytest.fixture
def broker_on_disk(disk: Disk) -> Iterator[Broker]:
    yield from running(disk.place / "jetstream")


@pytest.mark.parametrize(("more_mb", "fits"), [(1, True), (-4, False)])
async def test_the_doctor_wants_as_much_room_as_a_broker_does(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, more_mb: int, fits: bool
) -> None:
    disk.size(f"{room_for(StreamSettings()) // 1024 + more_mb * 1024}k")
    monkeypatch.setattr(tempfile, "tempdir", str(disk.place))
    finding = check_disk(StreamSettings())
    assert finding.ok is fits, finding.found
    for broker in running(disk.place / "jetstream"):
        async with broker_connection(Settings(nats_url=broker.url), "test") as bus:
            with nullcontext() if fits else pytest.raises(ApiRefused, match="insufficient storage"):
                await set_up(bus, StreamSettings())


async def test_a_full_disk_is_told_and_all_goes_on_when_there_is_room(
    disk: Disk, broker_on_disk: Broker, tmp_path: Path
) -> None:
    broker = broker_on_disk
    async with system(broker, tmp_path) as (log, gateway), connect(gateway.url) as client:
        session = await begun(client)
        search = Client(gateway.url).follow(session)
        told: list[ErrorFrame | Progress | VideoFrame] = []

        async def library() -> None:
            async with aclosing(search.frames()) as frames:
                async for frame in frames:
                    if isinstance(frame, ErrorFrame | Progress | VideoFrame):
                        told.append(frame)

        following = asyncio.create_task(library())
        sequences = [await give(log, session, 1)]
        disk.size("16m")
        await fill(log.bus, PADDING)
        started = time.monotonic()
        trouble = await receive_event(client, "error")
        print(f"told after {time.monotonic() - started:.1f} s: {trouble['message']}")
        assert (trouble["code"], trouble["session_id"], "id" in trouble) == ("unavailable", session, False)
        assert "disk" in trouble["message"]
        await gateway.ready(False)
        assert (await gateway.readiness())[1]["storage"] is False
        message, after = await refused_search(gateway)
        assert ("disk" in message, after < ANSWER_S) == (True, True), (message, after)
        assert "disk" in (search.trouble or "")
        disk.size("4g")
        broker.kill()  # this server stores again only after a restart
        broker.start()
        await gateway.ready()
        assert (await receive_event(client, "progress"))["state"] == "queued"
        sequences += [await give(log, session, n) for n in (2, 3)]
        await finish(log, session, 3)
        seen = [frame["sequence"] for frame in await to_completed(client) if frame["event"] == "video"]
        assert seen == sequences[1:]
        await following
        assert [frame.sequence for frame in told if isinstance(frame, VideoFrame)] == sequences
        assert any(isinstance(frame, ErrorFrame) for frame in told)
        assert not search.trouble
        assert search.reconnects == 0
        async with connect(gateway.url) as another:
            await begun(another)


async def test_a_full_bucket_is_told_and_all_goes_on_when_there_is_room(broker: Broker, tmp_path: Path) -> None:
    async with (
        system(broker, tmp_path, SMALL) as (log, gateway),
        connect(gateway.url) as client,
    ):
        session = await begun(client)
        ballast = secrets.token_hex(16)
        await give_many(log, ballast, range(10), 10_000)
        await fill(log.bus, PADDING)
        await fill(log.bus, 10)
        trouble = await receive_event(client, "error")
        assert (trouble["code"], trouble["session_id"]) == ("unavailable", session)
        assert "no room" in trouble["message"]
        await gateway.ready(False)
        message, after = await refused_search(gateway)
        assert ("no room" in message, after < ANSWER_S) == (True, True), (message, after)
        await log.bus.purge(subjects.RESULTS, subjects.records_of(ballast))
        await gateway.ready()
        assert (await receive_event(client, "progress"))["state"] == "queued"
        sequence = await give(log, session, 1)
        await finish(log, session, 1)
        assert (await receive_event(client, "video"))["sequence"] == sequence


# the broker's client gives a link up that is silent, and leaves it to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_broker_that_cannot_be_reached_is_told(broker: Broker, tmp_path: Path, how: signal.Signals) -> None:
    async with system(broker, tmp_path) as (log, gateway), connect(gateway.url) as client:
        session = await begun(client)
        assert broker.process is not None
        broker.process.send_signal(how)
        trouble = await receive_event(client, "error")
        assert (trouble["code"], trouble["session_id"]) == ("unavailable", session)
        assert "cannot be reached" in trouble["message"]
        await gateway.ready(False)
        message, after = await refused_search(gateway)
        assert ("cannot be reached" in message, after < ANSWER_S) == (True, True), (message, after)
        async with connect(gateway.url) as late:  # who comes now is told, and served when it can be
            await ask(late, "resume_extraction", session_id=session, after=0)
            assert (await receive_event(late, "error"))["code"] == "unavailable"
            if how is signal.SIGSTOP:
                broker.process.send_signal(signal.SIGCONT)
            else:
                broker.process.wait()
                broker.start()
            await gateway.ready()
            await wait_until(lambda: log.tail.alive, "the test is connected again")
            sequence = await give(log, session, 1)
            await finish(log, session, 1)
            for each in (client, late):
                assert (await receive_event(each, "video"))["sequence"] == sequence
                await receive_event(each, "completed")


async def test_clients_that_take_every_error_for_an_end_get_none(broker: Broker, tmp_path: Path) -> None:
    async with (
        system(broker, tmp_path) as (log, gateway),
        connect(gateway.url, subprotocols=[Subprotocol("pinstream.v1")]) as client,
    ):
        session = await begun(client)
        assert broker.process is not None
        broker.process.send_signal(signal.SIGSTOP)
        waiting = await receive_event(client, "progress")
        assert (waiting["state"], "cannot be reached" in waiting["waiting_for"]) == ("waiting", True)
        broker.process.send_signal(signal.SIGCONT)
        await wait_until(lambda: log.tail.alive, "the test is connected again")
        await give(log, session, 1)
        await finish(log, session, 1)
        frames = [await receive(client)]
        while frames[-1]["event"] != "completed":
            frames.append(await receive(client))
        assert not [frame for frame in frames if frame["event"] == "error"]


async def test_the_library_tells_why_a_search_cannot_be_begun(broker: Broker, tmp_path: Path) -> None:
    async with system(broker, tmp_path) as (_, gateway):
        assert broker.process is not None
        broker.process.send_signal(signal.SIGSTOP)
        with pytest.raises(RequestRefused, match="broker") as refused:
            [video async for video in Client(gateway.url).search("anything")]
        assert refused.value.code == "unavailable"
