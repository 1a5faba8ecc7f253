"""How a gateway stops: readiness first, then notice, then 4012, within its time whatever its clients and broker do."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from libs.client.broker import Broker
from libs.common.bus import connect as broker_connection
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
    slow_client,
)


async def closed_with(client: ClientConnection) -> int:
    """The code that `client` is closed with."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            await receive(client, timeout_s=30)
    return closed.value.rcvd.code if closed.value.rcvd else 1006


async def test_readiness_fails_at_once_and_clients_have_notice(nats_url: str, log: SessionLog, tmp_path: Path) -> None:
    async with GatewayProcess(nats_url, tmp_path, drain_notice_s=2.0) as gateway, connect(gateway.url) as client:
        session = await begun(client)
        assert await gateway.readiness() == (200, {"running": True, "tail": True, "storage": True})
        gateway.terminate()
        started = time.monotonic()
        await gateway.ready(False)
        assert time.monotonic() - started < 1.0
        status, checks = await gateway.readiness()
        assert (status, checks["running"]) == (503, False)
        await ask(client, "initiate_extraction", search_query="too late")
        refused = await receive_event(client, "error")
        assert (refused["code"], refused["retry_after_s"] > 0) == ("draining", True)
        sequence = await give(log, session, 1)  # what runs goes on meanwhile
        assert (await receive_event(client, "video"))["sequence"] == sequence
        async with connect(gateway.url) as late:
            await ask(late, "resume_extraction", session_id=session, after=0)
            assert (await receive_event(late, "video"))["sequence"] == sequence
            await ask(late, "initiate_extraction", search_query="too late")
            assert (await receive_event(late, "error"))["code"] == "draining"
            assert await closed_with(late) == 4012
        assert await closed_with(client) == 4012
        assert time.monotonic() - started >= 2.0
        assert await gateway.ended() == 0
        assert time.monotonic() - started < 2.0 + 3
    await finish(log, session, 1)


async def test_a_stuck_client_holds_nobody_up(nats_url: str, log: SessionLog, tmp_path: Path) -> None:
    async with (
        GatewayProcess(nats_url, tmp_path, drain_timeout_s=3.0, send_timeout_s=60) as gateway,
        slow_client(gateway.url) as stuck,
        connect(gateway.url) as brisk,
    ):
        session = await begun(stuck)
        await give_many(log, session, range(100), 100_000)
        await begun(brisk)
        gateway.terminate()
        started = time.monotonic()
        assert await closed_with(brisk) == 4012
        assert time.monotonic() - started < 2.0
        assert await gateway.ended() == 0
        print(f"ended {time.monotonic() - started:.1f} s after SIGTERM")
        assert time.monotonic() - started < 0.5 + 3.0 + 2.5


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "jetstream")
    broker.store.mkdir()
    broker.start()

    async def streams() -> None:
        async with broker_connection(Settings(nats_url=broker.url), "test") as bus:
            await set_up(bus, StreamSettings())

    uvloop.run(streams())
    yield broker
    if broker.process is not None:
        broker.process.send_signal(signal.SIGCONT)
    broker.stop()


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_it_ends_in_time_without_its_broker(broker: Broker, tmp_path: Path, how: signal.Signals) -> None:
    async with GatewayProcess(broker.url, tmp_path, drain_timeout_s=3.0) as gateway, connect(gateway.url) as client:
        await begun(client)
        assert broker.process is not None
        broker.process.send_signal(how)
        gateway.terminate()
        started = time.monotonic()
        assert await closed_with(client) == 4012
        assert await gateway.ended() == 0
        print(f"ended {time.monotonic() - started:.1f} s after SIGTERM")
        assert time.monotonic() - started < 0.5 + 3.0 + 4.0


async def test_a_session_goes_on_at_another_gateway(broker: Broker, tmp_path: Path) -> None:
    async with (
        broker_connection(Settings(nats_url=broker.url), "test") as bus,
        session_log(bus) as log,
        GatewayProcess(broker.url, tmp_path) as one,
        GatewayProcess(broker.url, tmp_path) as two,
    ):
        async with connect(one.url) as client:
            session = await begun(client)
            sequences = [await give(log, session, n) for n in range(3)]
            seen = [(await receive_event(client, "video"))["sequence"] for _ in range(3)]
            one.terminate()
            ended = asyncio.create_task(one.ended())
            assert await closed_with(client) == 4012
        async with connect(two.url) as client:
            await ask(client, "resume_extraction", session_id=session, after=seen[-1])
            sequences.append(await give(log, session, 3))
            await finish(log, session, 4)
            seen.append((await receive_event(client, "video"))["sequence"])
            await receive_event(client, "completed")
        assert seen == sequences
        assert await ended == 0
