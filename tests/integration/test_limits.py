"""How much one caller may ask for, over two gateways; addresses are told by a proxy that both believe."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from libs.client.client import Client
from libs.common import keys, subjects
from libs.common.bus import Bus, connect
from libs.common.frames import InitiateParameters
from libs.common.messages import (
    AtPlace,
    CancelRecord,
    CrawledRecord,
    Crowd,
    ProgressRecord,
    Reason,
    RequestRecord,
    SearchRequest,
    encode,
)
from libs.common.session_log import SessionLog, session_log
from libs.common.settings import Settings
from services.gateway.callers import Caller
from services.gateway.census import census
from services.gateway.limits import Limited
from services.gateway.places import places
from services.gateway.sessions import Begun
from tests.integration.access import GuardedGateway, ask, guarded
from tests.wait import wait_until

PROXY = {"trusted_proxies": ("127.0.0.1",), "anonymous": "yes"}


def of(address: str) -> dict[str, str]:
    """The header of a proxy."""
    return {"X-Forwarded-For": address}


async def close_code(client: ClientConnection) -> int:
    async with asyncio.timeout(20):
        try:
            while True:
                await client.recv()
        except ConnectionClosed:
            assert client.close_code is not None
            return client.close_code


async def next_event(client: ClientConnection, *events: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            frame: dict[str, Any] = json.loads(await client.recv())
            if frame["event"] in events:
                return frame


async def initiate(client: ClientConnection) -> dict[str, Any]:
    """`accepted` or `error`."""
    await client.send(json.dumps({"operation": "initiate_extraction", "parameters": {"search_query": "pots"}}))
    return await next_event(client, "accepted", "error")


async def end_all(log: SessionLog) -> None:
    """So that the next test counts its own sessions alone."""
    async with census(log) as counted:
        for session in list(counted._running):
            await log.put(session, subjects.CANCEL, CancelRecord(requested_at=0))


async def test_the_longest_wait_is_of_the_first_that_no_crawler_has_taken(log: SessionLog) -> None:
    async with census(log) as counted:
        assert counted.longest_wait_s() == 0.0
        first, second = secrets.token_hex(16), secrets.token_hex(16)
        for session in (first, second):
            request = SearchRequest(session=session, query="pots", result_limit=5, requested_at=time.time())
            await log.put(session, subjects.REQUEST, RequestRecord(request=request))
            await wait_until(lambda: counted.longest_wait_s() > 0.2, "the first waits")
        await wait_until(lambda: counted.states() == {"queued": 2}, "both are counted")
        since_the_first = time.time() - counted._running[first].stored_at
        told = counted.longest_wait_s()
        assert told >= since_the_first > 0.2
        await log.put(second, subjects.PROGRESS, ProgressRecord(state="waiting"))
        await wait_until(lambda: counted.states() == {"queued": 1, "waiting": 1}, "the second was taken")
        assert counted.longest_wait_s() > told
        await log.put(first, subjects.PROGRESS, ProgressRecord(state="crawling"))
        await wait_until(lambda: counted.longest_wait_s() == 0.0, "none waits")


@pytest.fixture(autouse=True)
async def _no_sessions(log: SessionLog) -> AsyncIterator[None]:
    await end_all(log)
    yield


async def both(log: SessionLog, stack: AsyncExitStack, **settings: Any) -> tuple[GuardedGateway, GuardedGateway]:
    one = await stack.enter_async_context(guarded(log, **{**PROXY, **settings}))
    return one, await stack.enter_async_context(guarded(log, **{**PROXY, **settings}))


async def apart(nats_url: str, stack: AsyncExitStack, **settings: Any) -> list[GuardedGateway]:
    """Two that have nothing in common but the broker."""
    gateways = []
    for _ in range(2):
        bus = await stack.enter_async_context(connect(Settings(nats_url=nats_url), "test"))
        log = await stack.enter_async_context(session_log(bus))
        gateways.append(await stack.enter_async_context(guarded(log, **{**PROXY, **settings})))
    return gateways


async def test_sessions_of_a_key_are_counted_over_all_gateways_and_end_with_their_crawl(log: SessionLog) -> None:
    async with AsyncExitStack() as stack:
        one, two = await both(log, stack, sessions_per_key=3)
        key, other = [(await keys.create(log.bus, "test")).text for _ in range(2)]
        await wait_until(
            lambda: all(gateway.access.keyring.key(other) is not None for gateway in (one, two)), "all know the keys"
        )
        a, b = [await stack.enter_async_context(gateway.client(key)) for gateway in (one, two)]
        answers = await asyncio.gather(*(initiate(client) for client in (a, b)))
        answers += await asyncio.gather(*(initiate(client) for client in (a, b)))
        refused = [frame for frame in answers if frame["event"] == "error"]
        assert len(refused) == 1
        assert (refused[0]["code"], refused[0]["retry_after_s"] > 0) == ("too_many_sessions", True)
        neighbour = await stack.enter_async_context(two.client(other))
        assert (await initiate(neighbour))["event"] == "accepted"
        over = next(frame["session_id"] for frame in answers if frame["event"] == "accepted")
        await log.create(over, subjects.CRAWLED, CrawledRecord(reason=Reason.LIMIT, items=0))
        await wait_until(lambda: one.security.limits.census.count(owner=owner(one, key)) < 3, "it is no longer counted")
        assert (await initiate(a))["event"] == "accepted"
        assert (await initiate(b))["event"] == "error"


def owner(gateway: GuardedGateway, text: str) -> str:
    key = gateway.access.keyring.key(text)
    assert key is not None
    return f"key:{key.owner}"


@pytest.mark.parametrize("limit", ["sessions_per_address", "sessions_per_key", "sessions_most"])
async def test_of_many_that_ask_at_once_at_two_gateways_as_many_as_the_limit_begin(
    nats_url: str, log: SessionLog, limit: str
) -> None:
    async with AsyncExitStack() as stack:
        gateways = await apart(nats_url, stack, **{limit: 4})
        key = (await keys.create(log.bus, "test")).text if limit == "sessions_per_key" else None
        await wait_until(lambda: all(one.access.keyring.key(key or "") for one in gateways) or not key, "both know it")
        clients = [
            await stack.enter_async_context(gateway.client(key, headers=of(f"203.0.113.{7 + (key is not None) * n}")))
            for gateway in gateways
            for n in range(12)
        ]
        answers = await asyncio.gather(*map(initiate, clients))
        assert len([frame for frame in answers if frame["event"] == "accepted"]) == 4
        refused = [frame for frame in answers if frame["event"] == "error"]
        assert {frame["code"] for frame in refused} == {"too_many_sessions"}
        if limit != "sessions_most":
            elsewhere = await stack.enter_async_context(gateways[0].client(headers=of("203.0.113.99")))
            assert (await initiate(elsewhere))["event"] == "accepted"


async def test_of_many_with_keys_of_their_own_those_refused_keep_no_place(log: SessionLog) -> None:
    async with guarded(log, **{**PROXY, "sessions_per_address": 4}) as gateway:
        somebody = Caller(place="somewhere")

        async def begin(_: int) -> Begun | Limited:
            """By what all ways in call: over HTTP too few of them would come at the same moment."""
            try:
                pots = InitiateParameters(search_query="pots")
                return await gateway.rest.sessions.begin(pots, caller=somebody, keyed=secrets.token_hex(16))
            except Limited as error:
                return error

        answers = await asyncio.gather(*map(begin, range(64)))
        begun = [answer.session for answer in answers if isinstance(answer, Begun)]
        assert len(begun) == 4
        for session in begun:
            await log.create(session, subjects.CRAWLED, CrawledRecord(reason=Reason.LIMIT, items=0))
        census = gateway.security.limits.census
        await wait_until(lambda: census.count(place="somewhere") == 0, "none is under way")
        answers = await asyncio.gather(*map(begin, range(4)))
        assert [type(answer) for answer in answers] == [Begun] * 4


async def test_a_session_that_is_asked_for_twice_at_once_has_one_place(log: SessionLog) -> None:
    async with guarded(log, **{**PROXY, "sessions_per_address": 1}) as gateway:
        pots, one = InitiateParameters(search_query="pots"), secrets.token_hex(16)
        begin = gateway.rest.sessions.begin
        answers = await asyncio.gather(*(begin(pots, caller=Caller(place="there"), keyed=one) for _ in range(8)))
        assert {answer.session for answer in answers} == {one}


async def test_what_cannot_be_counted_is_not_begun(
    nats_url: str, log: SessionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.census.SEEN_S", 0.1)
    async with connect(Settings(nats_url=nats_url), "test") as bus, census(log) as counted:
        deaf = SessionLog(bus)  # its tail does not run
        await deaf.tail.start()
        async with guarded(deaf, **PROXY) as gateway, gateway.client() as client:
            refused = await initiate(client)
        assert (refused["code"], refused["retry_after_s"] > 0) == ("unavailable", True)
        await counted.seen(await log.last_sequence())
        assert counted.count() == 0


async def test_the_count_outlives_the_gateway_that_began_the_sessions(log: SessionLog) -> None:
    few: dict[str, Any] = {**PROXY, "sessions_per_address": 2}
    address = of("203.0.113.9")
    async with guarded(log, **few) as gone, gone.client(headers=address) as client:
        assert [(await initiate(client))["event"] for _ in range(2)] == ["accepted", "accepted"]
    async with guarded(log, **few) as heir, heir.client(headers=address) as client:
        assert (await initiate(client))["code"] == "too_many_sessions"


async def test_when_all_are_too_many_new_ones_are_refused_and_running_ones_go_on(log: SessionLog) -> None:
    async with AsyncExitStack() as stack:
        one, two = await both(log, stack, sessions_most=2)
        first = await stack.enter_async_context(one.client())
        second = await stack.enter_async_context(two.client())
        running = (await initiate(first))["session_id"]
        assert (await initiate(second))["event"] == "accepted"
        await wait_until(lambda: one.security.limits.census.count() == 2, "both are counted")
        assert (await initiate(first))["code"] == "too_many_sessions"
        await log.create(running, subjects.CRAWLED, CrawledRecord(reason=Reason.EXHAUSTED, items=0))
        assert (await next_event(first, "completed"))["session_id"] == running


async def test_who_waits_is_told_how_many_wait_before(log: SessionLog) -> None:
    async with AsyncExitStack() as stack:
        one, two = await both(log, stack)
        clients = [await stack.enter_async_context(gateway.client()) for gateway in (one, two, one)]
        sessions = []
        for client in clients:
            sessions.append((await initiate(client))["session_id"])
        told = await next_event(clients[2], "progress")
        assert (told["state"], told["queued"]) == ("queued", 2)
        await log.put(sessions[0], subjects.PROGRESS, ProgressRecord(state="starting"))
        moved = await next_event(clients[2], "progress")
        assert (moved["state"], moved["queued"]) == ("queued", 1)
        await log.put(sessions[2], subjects.PROGRESS, ProgressRecord(state="starting"))
        assert "queued" not in await next_event(clients[2], "progress")


async def test_requests_of_an_address_are_counted_over_all_gateways(log: SessionLog) -> None:
    async with AsyncExitStack() as stack:
        gateways = await both(log, stack, requests_per_minute_per_address=12.0)  # two at once, then one in 5 s
        address = "198.51.100.1"
        answers = [await gateways[n % 2].post("/v1/tickets", x_forwarded_for=address) for n in range(4)]
        assert [answer.status_code for answer in answers] == [201] * 2 + [429] * 2
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert answers[-1].json()["code"] == "rate_limited"
        async with gateways[0].client(headers=of(address)) as client:
            assert (await next_event(client, "error"))["code"] == "rate_limited"
            assert await close_code(client) == 4029
        assert (await gateways[0].post("/v1/tickets", x_forwarded_for="198.51.100.2")).status_code == 201


async def test_requests_of_a_key_are_counted_over_all_gateways_and_ways_in(log: SessionLog) -> None:
    async with AsyncExitStack() as stack:
        one, two = await both(log, stack, requests_per_minute=18.0)  # three at once
        key = (await keys.create(log.bus, "test")).text
        await wait_until(
            lambda: all(gateway.access.keyring.key(key) is not None for gateway in (one, two)), "all know the key"
        )
        assert (await one.post("/v1/tickets", key)).status_code == 201
        client = await stack.enter_async_context(two.client(key))
        assert (await initiate(client))["event"] == "accepted"
        assert (await one.post("/v1/tickets", key)).status_code == 201
        refused = await initiate(client)
        assert (refused["code"], refused["retry_after_s"] > 0) == ("rate_limited", True)
        assert (await one.post("/v1/tickets", key)).status_code == 429
        assert (await ask(client, "ping"))["event"] in ("pong", "progress")


async def test_connections_of_an_address_are_counted_over_all_gateways(log: SessionLog) -> None:
    async with AsyncExitStack() as stack:
        one, two = await both(log, stack, connections_per_address=2)
        address = "198.51.100.3"
        place = one.security.places.name(address)
        first = await stack.enter_async_context(one.client(headers=of(address)))
        await wait_until(lambda: two.security.crowd.count(place) == 1, "the other gateway knows of it")
        await stack.enter_async_context(two.client(headers=of(address)))
        async with two.client(headers=of(address)) as third:
            assert await close_code(third) == 4029
        await first.close()
        await wait_until(lambda: two.security.crowd.count(place) == 1, "the other gateway knows that it has left")
        async with two.client(headers=of(address)) as third:
            assert (await ask(third, "ping"))["event"] == "pong"


async def test_of_many_that_connect_at_once_each_gateway_lets_in_as_many_as_the_limit_at_most(
    nats_url: str, log: SessionLog
) -> None:
    async with AsyncExitStack() as stack:
        gateways = await apart(nats_url, stack, connections_per_address=3)
        address = "198.51.100.4"
        places = {gateway.security.places.name(address) for gateway in gateways}
        clients = await asyncio.gather(
            *(stack.enter_async_context(gateway.client(headers=of(address))) for gateway in gateways for _ in range(10))
        )
        answers = await asyncio.gather(*map(said_to, clients))
        let_in = [sum(answers[:10]), sum(answers[10:])]
        print(f"let in: {let_in}")
        assert max(let_in) == 3
        (place,) = places
        await wait_until(lambda: all(one.security.crowd.count(place) == sum(let_in) for one in gateways), "all know")
        async with gateways[0].client(headers=of(address)) as one_more:
            assert await close_code(one_more) == 4029


async def said_to(client: ClientConnection) -> bool:
    """Whether a client was let in."""
    try:
        return bool((await ask(client, "ping"))["event"] == "pong")
    except ConnectionClosed:
        return False


async def test_connections_of_a_gateway_that_is_gone_are_forgotten(bus: Bus, log: SessionLog) -> None:
    async with guarded(log, **PROXY) as gateway:
        crowd = gateway.security.crowd
        await bus.publish(subjects.crowd("dead"), encode(Crowd(connections=(AtPlace("somewhere", 5),))))
        await wait_until(lambda: crowd.count("somewhere") == 5, "it is counted")
        at, told = crowd._others["dead"]
        crowd._others["dead"] = at - 16.0, told
        assert crowd.count("somewhere") == 0
        await bus.purge(subjects.LIMITS, subjects.crowd("dead"))


async def test_one_connection_that_sends_too_fast_is_told_and_then_closed(log: SessionLog) -> None:
    async with guarded(log, anonymous="yes", messages_per_second=1.0) as gateway, gateway.client() as client:
        for _ in range(60):
            await client.send('{"operation": "ping"}')
        frames = []
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                frames.append(json.loads(await client.recv()))
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4029
        refused = [frame for frame in frames if frame["event"] == "error"]
        assert len(frames) - len(refused) in (10, 11)
        assert {frame["code"] for frame in refused} == {"rate_limited"}
        assert all(frame["retry_after_s"] > 0 for frame in refused)


async def test_a_message_that_is_too_large_is_told_so_and_the_connection_lives_on(log: SessionLog) -> None:
    async with guarded(log, anonymous="yes", message_max_bytes=2048) as gateway, gateway.client() as client:
        for text in ("x" * 3000, "ä" * 1500):
            frame = await ask(client, "initiate_extraction", search_query=text)
            assert (frame["code"], frame["field"]) == ("message_too_large", "message")
        assert (await ask(client, "ping"))["event"] == "pong"


async def test_the_client_library_waits_as_long_as_it_is_told(log: SessionLog) -> None:
    async with guarded(log, requests_per_minute=60.0) as gateway:  # ten at once, then one a second
        key = (await keys.create(log.bus, "test")).text
        await wait_until(lambda: gateway.access.keyring.key(key) is not None, "the gateway knows the key")
        for _ in range(10):
            await gateway.post("/v1/tickets", key)
        async with Client(gateway.url, api_key=key).search("pots") as search:
            async for _ in search.frames():
                break
            assert search.session_id is not None


async def test_an_address_has_one_name_at_all_gateways_and_this_machine_has_none(bus: Bus) -> None:
    one, two = await places(bus), await places(bus)
    assert one.name("203.0.113.7") == two.name("203.0.113.7") != one.name("203.0.113.8")
    assert one.name("::ffff:203.0.113.7") == one.name("203.0.113.7")
    assert one.name("2001:db8::1") == one.name("2001:db8::2") != one.name("2001:db8:0:1::1")
    assert {one.name(host) for host in ("127.0.0.1", "::1", "::ffff:127.0.0.1", None)} == {""}
    assert one.name("unknown") == one.name("_hidden") != ""  # what a proxy knows no address of
