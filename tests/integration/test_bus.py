from __future__ import annotations

import asyncio
import gc
import secrets
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from libs.common import subjects
from libs.common.bus import Bus, Fence, connect
from libs.common.errors import (
    AlreadyExists,
    BrokerUnavailable,
    Fenced,
    PublishRefused,
    StartFailed,
    StreamFull,
    StreamMissing,
)
from libs.common.settings import Settings
from tests.tcp_proxy import TcpProxy
from tests.wait import wait_until


async def test_a_record_is_created_once(bus: Bus, session: str) -> None:
    subject = subjects.record(session, subjects.VIDEO, "ab")
    first = await bus.publish(subject, b"1", create=True)
    with pytest.raises(AlreadyExists):
        await bus.publish(subject, b"2", create=True)
    stored = await bus.last(subjects.RESULTS, subject)
    assert stored is not None
    assert (stored.body, stored.sequence) == (b"1", first)


async def test_of_many_at_once_exactly_one_creates(bus: Bus, session: str) -> None:
    subject = subjects.record(session, subjects.VIDEO, "ab")
    results = await asyncio.gather(
        *(bus.publish(subject, str(n).encode(), create=True) for n in range(50)), return_exceptions=True
    )
    assert sum(isinstance(result, int) for result in results) == 1
    assert sum(isinstance(result, AlreadyExists) for result in results) == 49


async def test_an_item_is_refused_once_a_newer_lease_or_the_end_is_recorded(bus: Bus, session: str) -> None:
    old = Fence(subjects.leases_of(session), await bus.publish(subjects.lease(session, "a"), b"{}", create=True))
    await bus.publish(subjects.raw(session, "1-0"), b"x", fence=old)
    new = Fence(subjects.leases_of(session), await bus.publish(subjects.lease(session, "b"), b"{}", create=True))
    with pytest.raises(Fenced):
        await bus.publish(subjects.raw(session, "2-0"), b"x", fence=old)
    with pytest.raises(Fenced):
        await bus.publish(subjects.lease_end(session), b"{}", fence=old)
    await bus.publish(subjects.raw(session, "2-0"), b"x", fence=new)
    with pytest.raises(AlreadyExists):
        await bus.publish(subjects.raw(session, "1-0"), b"x", fence=new)
    await bus.publish(subjects.lease_end(session), b"{}", create=True)
    with pytest.raises(Fenced):
        await bus.publish(subjects.raw(session, "3-0"), b"x", fence=new)
    found, _ = await bus.subjects_under(subjects.RAW, subjects.raw_of(session))
    assert found == {subjects.raw(session, "1-0"), subjects.raw(session, "2-0")}


async def test_a_server_that_takes_connections_and_says_nothing_is_left_with_one(nats_url: str) -> None:
    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    parts = urlsplit(nats_url)
    async with (
        await asyncio.start_server(hear, "127.0.0.1", 0) as silent,
        TcpProxy((str(parts.hostname), int(parts.port or 0))) as network,
        connect(Settings(nats_url=network.url), "test") as bus,
    ):
        there, network.targets = network.targets, [silent.sockets[0].getsockname()]
        await network.cut()
        await network.mend()
        before = network.accepted
        gc.disable()  # which would close what was let lie
        try:
            await wait_until(lambda: network.accepted >= before + 4, "it is tried again and again")
            assert network.connections <= 2  # the one before may not have been closed on the other side yet
        finally:
            gc.enable()
        network.targets = there
        await wait_until(lambda: bus.connected, "it is connected again")


async def test_a_full_stream_says_so(bus: Bus) -> None:
    name = f"FULL{secrets.token_hex(4)}"
    config = {"name": name, "subjects": [f"{name}.>"], "discard": "new", "max_msgs": 1, "storage": "memory"}
    await bus.api(f"STREAM.CREATE.{name}", config)
    await bus.publish(f"{name}.a", b"x")
    with pytest.raises(StreamFull):
        await bus.publish(f"{name}.b", b"x")
    await bus.api(f"STREAM.DELETE.{name}")


async def test_what_no_stream_takes_is_unavailable_in_bounded_time(bus: Bus) -> None:
    with pytest.raises(BrokerUnavailable):
        await bus.publish("nobody.listens.here", b"x", patience_s=0.5)
    with pytest.raises(StreamMissing):
        await bus.api("STREAM.INFO.NOSUCHSTREAM", patience_s=0.5)


async def test_more_than_the_broker_takes_is_refused(bus: Bus, session: str) -> None:
    with pytest.raises(PublishRefused):
        await bus.publish(subjects.record(session, subjects.PROGRESS), b"x" * (bus.client.max_payload + 1))


async def test_headers_given_are_left_as_they_were(bus: Bus, session: str) -> None:
    headers = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
    await bus.publish(subjects.record(session, subjects.VIDEO, "ab"), b"x", headers=headers, create=True)
    assert list(headers) == ["traceparent"]
    [stored] = await bus.read(subjects.RESULTS, subjects.records_of(session), 1, 10)
    assert stored.headers["traceparent"] == headers["traceparent"]


async def test_a_session_is_read_in_order_in_pages(bus: Bus, session: str) -> None:
    sequences = [await bus.publish(subjects.record(session, subjects.REPEAT, f"{n}-0"), b"{}") for n in range(25)]
    first = await bus.read(subjects.RESULTS, subjects.records_of(session), 1, 10)
    rest = await bus.read(subjects.RESULTS, subjects.records_of(session), first[-1].sequence + 1, 100)
    assert [stored.sequence for stored in first + rest] == sequences
    assert await bus.read(subjects.RESULTS, subjects.records_of("nobody"), 1, 10) == []


async def test_no_broker_is_a_sentence(unused_port: int) -> None:
    with pytest.raises(StartFailed, match="set NATS_URL"):
        async with connect(Settings(nats_url=f"nats://127.0.0.1:{unused_port}"), "test"):
            pass


async def test_what_is_too_large_with_its_headers_is_refused_and_the_connection_lives(bus: Bus, session: str) -> None:
    headers = {"Pinstream-Reason": "x" * 2000}
    body = b"x" * (bus.client.max_payload - 1000)
    with pytest.raises(PublishRefused):
        await bus.publish(subjects.record(session, subjects.PROGRESS), body, headers=headers)
    await bus.publish(subjects.record(session, subjects.PROGRESS), b"{}")


async def test_a_connection_that_the_broker_closes_for_good_ends_its_service(nats_url: str) -> None:
    with pytest.raises(BrokerUnavailable, match="for good"):
        async with connect(Settings(nats_url=nats_url), "test") as bus:
            await bus.client.publish("x", b"x", reply="")
            bus.client._transport.write(b"NONSENSE\r\n")  # type: ignore[union-attr]
            await asyncio.Event().wait()
