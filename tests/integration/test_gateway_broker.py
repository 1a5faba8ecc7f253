"""The gateway's promises while its broker forgets, or goes away in the middle."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import connect

from libs.client.broker import Broker
from libs.client.client import Client
from libs.client.errors import RequestRefused
from libs.common import subjects
from libs.common.bus import connect as broker_connection
from libs.common.session_log import session_log
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, set_up
from tests.integration.event_source import EventClient
from tests.integration.gateway_process import (
    GatewayProcess,
    ask,
    begun,
    finish,
    give,
    receive,
    receive_event,
    to_completed,
)
from tests.integration.rest_gateway import WANTED, begin, problem
from tests.tcp_proxy import TcpProxy
from tests.wait import POLL_S


async def test_a_sequence_that_has_expired_is_a_clear_error(broker: Broker, tmp_path: Path) -> None:
    async with broker_connection(Settings(nats_url=broker.url), "test") as bus:
        await set_up(bus, StreamSettings())
        async with session_log(bus) as log, GatewayProcess(broker.url, tmp_path) as gateway:
            async with connect(gateway.url) as client:
                session = await begun(client)
                sequence = await give(log, session, 1)
                await receive_event(client, "video")
            config = (await bus.api(f"STREAM.INFO.{subjects.RESULTS}"))["config"]
            short = {"max_age": 10**9, "duplicate_window": 10**9}
            await bus.api(f"STREAM.UPDATE.{subjects.RESULTS}", {**config, **short})
            end = time.monotonic() + 20
            while await log.get(session, subjects.REQUEST) is not None:
                assert time.monotonic() < end, "the broker lets the record go"
                await asyncio.sleep(POLL_S)
            async with connect(gateway.url) as client:
                await ask(client, "resume_extraction", session_id=session, after=sequence)
                refused = await receive_event(client, "error")
                assert (refused["code"], refused["field"]) == ("expired", "parameters.after")
                await ask(client, "resume_extraction", session_id=session, after=0)
                assert (await receive_event(client, "error"))["code"] == "unknown_session"
                await begun(client)
            with pytest.raises(RequestRefused) as told:
                [video async for video in Client(gateway.url).follow(session, after=sequence)]
            assert told.value.code == "expired"


async def test_a_cancel_whose_broker_goes_away_is_finished_by_the_next(broker: Broker, tmp_path: Path) -> None:
    rng = random.Random(3)
    async with (
        TcpProxy(("127.0.0.1", broker.port)) as network,
        broker_connection(Settings(nats_url=broker.url), "test") as bus,
    ):
        await set_up(bus, StreamSettings())
        async with (
            session_log(bus) as log,
            GatewayProcess(network.url, tmp_path, storage_check_s=0.5) as gateway,
            connect(gateway.url) as client,
            connect(gateway.url) as other,
        ):
            for delay_s in (0.0, 0.001, rng.uniform(0.001, 0.01)):
                session = await begun(client)
                await give(log, session, 1)
                await receive_event(client, "video")
                await ask(other, "cancel_extraction", session_id=session)
                await asyncio.sleep(delay_s)
                await network.cut(hole=True)
                answer = await receive(other)
                while answer["event"] not in ("error", "completed"):
                    answer = await receive(other)
                if answer["event"] == "error":
                    assert (answer["code"], answer["retry_after_s"] > 0) == ("unavailable", True)
                await network.mend()
                await gateway.ready()
                await ask(other, "cancel_extraction", session_id=session)
                assert (await receive_event(other, "completed"))["reason"] == "cancelled"
                frames = await to_completed(client)
                assert frames[-1]["reason"] == "cancelled"
                assert frames[-1]["session_id"] == session
                assert await bus.last(subjects.SEARCHES, subjects.search(session)) is None
                assert (await log.state(session)).complete
            for each in (client, other):
                await ask(each, "ping")
                frame = await receive(each)
                while frame["event"] != "pong":
                    assert frame["event"] != "completed"
                    frame = await receive(each)


async def test_followers_go_on_where_they_were_after_the_broker_was_away(broker: Broker, tmp_path: Path) -> None:
    async with (
        TcpProxy(("127.0.0.1", broker.port)) as network,
        broker_connection(Settings(nats_url=broker.url), "test") as bus,
    ):
        await set_up(bus, StreamSettings())
        async with (
            session_log(bus) as log,
            GatewayProcess(network.url, tmp_path) as gateway,
            connect(gateway.url) as client,
        ):
            session = await begun(client)
            sequences = [await give(log, session, n) for n in range(3)]
            await network.cut()
            sequences += [await give(log, session, n) for n in range(3, 6)]
            await network.mend()
            sequences += [await give(log, session, n) for n in range(6, 9)]
            await finish(log, session, 9)
            frames = await to_completed(client)
        assert [frame["sequence"] for frame in frames if frame["event"] == "video"] == sequences
        assert not [frame for frame in frames if frame["event"] == "error"]  # it was a matter of a moment


async def test_over_http_an_absent_broker_is_told_in_time_and_an_event_source_may_come_back(
    broker: Broker, tmp_path: Path
) -> None:
    async with (
        TcpProxy(("127.0.0.1", broker.port)) as network,
        broker_connection(Settings(nats_url=broker.url), "test") as bus,
    ):
        await set_up(bus, StreamSettings())
        async with (
            GatewayProcess(network.url, tmp_path) as gateway,
            httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False, timeout=30) as client,
        ):
            session = await begin(client)
            one = f"/v1/sessions/{session}"
            await network.cut(hole=True)
            started = time.monotonic()

            async def events() -> EventClient:
                async with EventClient(gateway.port, session) as source:
                    assert await source.to_end() == []
                return source

            source, *refused = await asyncio.gather(
                events(),
                client.post("/v1/sessions", json=WANTED),
                client.post("/v1/sessions", json=WANTED, headers={"Idempotency-Key": session}),
                client.get(one),
                client.get(f"{one}/videos"),
                client.delete(one),
            )
            assert time.monotonic() - started < 15
            for answer in refused:
                assert problem(answer) == (503, "unavailable", None)
                assert answer.headers["retry-after"] == "5"
            assert source.status == 200 and source.retry_ms and source.retry_ms[0] >= 2500
            await network.mend()
            await gateway.ready()
            assert (await client.get(one)).json()["state"] == "queued"
