"""Who may read what by Firebase's protocols, whose clients give their token before or after they have connected."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from libs.common import keys
from libs.common.session_log import SessionLog
from services.gateway.firebase.requests import new_push_id
from tests.integration.access import GuardedGateway, guarded
from tests.integration.firebase_gateway import WireClient, begin, wire
from tests.wait import wait_until

WANTED = {"search_query": "cups", "result_limit": 1}
SEGMENT = 16_384
MB = 1024 * 1024


@pytest.fixture
async def gateway(log: SessionLog) -> AsyncIterator[GuardedGateway]:
    async with guarded(log) as gateway:
        yield gateway


async def key_of(gateway: GuardedGateway, owner: str) -> keys.Made:
    made = await keys.create(gateway.access.keyring.bus, "test", owner=owner)
    await wait_until(lambda: gateway.access.keyring.key(made.text) is not None, "the gateway knows the key")
    return made


async def test_a_session_is_its_owners_and_a_revoked_key_ends_the_connection(
    gateway: GuardedGateway, log: SessionLog, session: str
) -> None:
    await begin(log, session, owner="key:ann")
    ann, bob = await key_of(gateway, "ann"), await key_of(gateway, "bob")
    path = f"/sessions/{session}/status/state"
    async with wire(gateway) as client:
        assert (await client.ask("g", p=path, q={}))["d"] is None
        assert (await client.ask("auth", cred="nonsense"))["s"] == "invalid_token"
        assert (await client.ask("auth", cred=bob.text))["s"] == "ok"
        assert (await client.ask("g", p=path, q={}))["d"] is None
        assert (await client.ask("auth", cred=ann.text))["s"] == "ok"
        assert (await client.ask("g", p=path, q={}))["d"] == "queued"
        await keys.revoke(gateway.access.keyring.bus, ann.record.id)
        assert (await client.data())["a"] == "ac"
        with pytest.raises(ConnectionClosed):
            await client.receive()


async def test_nothing_is_begun_or_read_without_a_key(gateway: GuardedGateway, log: SessionLog, session: str) -> None:
    await begin(log, session, owner="key:ann")
    ann = await key_of(gateway, "ann")
    async with httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False) as client:
        one = f"/sessions/{session}/status/state.json"
        assert (await client.get(one)).json() is None
        assert (await client.get(one, params={"auth": "nonsense"})).status_code == 401
        refused = await client.get(one, headers={"Authorization": "Bearer nonsense"})
        assert refused.status_code == 401 and list(refused.json()) == ["error"]
        assert (await client.get(one, params={"auth": ann.text})).json() == "queued"
        assert (await client.get(one, headers={"Authorization": "Bearer owner"})).json() is None
        assert (await client.get(one, headers={"Authorization": f"Bearer {ann.text}"})).json() == "queued"
        assert (await client.post("/requests.json", json=WANTED)).status_code == 401
        assert (await client.post("/requests.json", json=WANTED, params={"auth": ann.text})).status_code == 200
    async with wire(gateway) as socket:
        assert (await socket.ask("p", p="/requests/-Nabcdefghijklmnopqr", d=WANTED))["s"] == "invalid_token"


def client_of(gateway: GuardedGateway) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False)


async def push(client: WireClient) -> dict[str, Any]:
    return await client.ask("p", p=f"/requests/{new_push_id()}", d=WANTED)


async def test_a_stranger_does_not_read_what_was_pushed_without_a_key_elsewhere(
    gateway: GuardedGateway, log: SessionLog
) -> None:
    path = f"/requests/{new_push_id()}"
    async with guarded(log, anonymous="yes") as elsewhere, wire(elsewhere) as client:
        assert (await client.ask("p", p=path, d=WANTED))["s"] == "ok"
        assert (await client.ask("g", p=path, q={}))["d"]["search_query"] == "cups"
    async with wire(gateway) as client, client_of(gateway) as http:
        assert await client.ask("g", p=path, q={}) == {"s": "ok", "d": None}
        assert [each["b"]["d"] for each in await client.listen(path)] == [None]
        assert (await http.get(f"{path}.json")).json() is None


async def test_a_token_of_app_check_says_who_asks_by_rest_too(
    gateway: GuardedGateway, log: SessionLog, session: str
) -> None:
    await begin(log, session, owner="key:ann")
    ann, bob = await key_of(gateway, "ann"), await key_of(gateway, "bob")
    one = f"/sessions/{session}/status/state.json"
    async with client_of(gateway) as client:
        assert (await client.get(one, params={"ac": ann.text})).json() == "queued"
        assert (await client.get(one, headers={"X-Firebase-AppCheck": ann.text})).json() == "queued"
        assert (await client.get(one, params={"ac": "nonsense"})).status_code == 401
        assert (await client.get(one, params={"ac": "nonsense", "auth": ann.text})).json() == "queued"
        assert (await client.get(one, params={"ac": ann.text, "auth": "owner"})).json() == "queued"
        assert (await client.get(one, params={"ac": ann.text, "auth": bob.text})).json() is None


async def test_who_gives_a_key_late_is_counted_as_who_comes_with_it(log: SessionLog) -> None:
    async with guarded(log, requests_per_minute=0.06) as gateway, wire(gateway) as client, client_of(gateway) as http:
        ann, bob, eve = [await key_of(gateway, owner) for owner in ("ann", "bob", "eve")]
        await client.ask("auth", cred=ann.text)
        assert (await push(client))["s"] == "ok"
        refused = await push(client)
        assert (refused["s"], "try again in" in refused["d"]) == ("rate_limited", True)
        for given in ({"auth": ann.text}, {"access_token": ann.text}, {"ac": ann.text}):
            answer = await http.post("/requests.json", json=WANTED, params=given)
            assert (answer.status_code, answer.json()) == (429, {"error": "this key asks too often"})
            assert int(answer.headers["retry-after"]) > 0
        posted = [await http.post("/requests.json", json=WANTED, params={"auth": bob.text}) for _ in range(2)]
        assert [answer.status_code for answer in posted] == [200, 429]
        twice = await http.get("/requests/0.json", params={"auth": eve.text}, headers={"X-API-Key": eve.text})
        assert twice.status_code == 200, "it is counted once"


@pytest.mark.parametrize("kept_alive", [False, True])
async def test_one_connection_that_sends_too_fast_is_told_and_then_closed(log: SessionLog, kept_alive: bool) -> None:
    async with guarded(log, anonymous="yes", messages_per_second=0.15) as gateway, wire(gateway) as client:
        for _ in range(60):
            await client.socket.send("0") if kept_alive else await client.send("g", p="/sessions/0/status", q={})
        told = []
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                told.append((await client.data())["b"]["s"])
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4029
        if not kept_alive:
            assert told.count("ok") in (2, 3)
            assert set(told) == {"ok", "rate_limited"}


async def test_signing_out_is_never_too_early(log: SessionLog, session: str) -> None:
    await begin(log, session, owner="key:ann")
    async with guarded(log, messages_per_second=0.01) as gateway, wire(gateway) as client:
        ann = await key_of(gateway, "ann")
        await client.ask("auth", cred=ann.text)
        path = f"/sessions/{session}/status"
        assert (await client.ask("g", p=path, q={}))["s"] == "rate_limited"
        assert await client.ask("unauth") == {"s": "ok", "d": ""}
        assert [connection.identity.caller.admitted for connection in gateway.firebase.connections] == [False]


async def test_what_an_sdk_does_at_once_is_not_too_fast(log: SessionLog, session: str) -> None:
    await begin(log, session)
    async with guarded(log, anonymous="yes") as gateway, wire(gateway) as client:
        numbers = {await client.send("s", c={"sdk.js.12-19-0": 1})}
        for n in range(100):
            numbers.add(await client.send("q", p=f"/sessions/{session}/videos/v{n}", h=""))
            numbers |= {await client.send("g", p=f"/sessions/{session}/{name}", q={}) for name in ("status", "stats")}
            await client.socket.send("0")
        answers: dict[int, str] = {}
        while answers.keys() != numbers:
            if "r" in (message := await client.data()):
                answers[message["r"]] = message["b"]["s"]
        assert set(answers.values()) == {"ok"}


async def test_a_long_message_counts_as_two_however_many_segments_it_has(log: SessionLog) -> None:
    text = '{"t":"d","d":{"r":7,"a":"p","b":{"p":"/cmd/big","d":"' + "ü" * 40 * SEGMENT + '"}}}'
    segments = [text[at : at + SEGMENT] for at in range(0, len(text), SEGMENT)]
    settings: dict[str, Any] = {"messages_per_second": 0.15, "message_max_bytes": 2 * 1024 * 1024}  # two at once
    async with guarded(log, anonymous="yes", **settings) as gateway, wire(gateway) as client:
        for segment in (str(len(segments)), *segments):
            await client.socket.send(segment)
        assert (await client.data()) == {"r": 7, "b": {"s": "permission_denied", "d": "Permission denied"}}
        await client.socket.send("3")
        for segment in ('{"t":"d","d":', '{"r":8,"a":"s","b":', "{}}}"):
            await client.socket.send(segment)
        refused = await client.data()
        assert (refused["r"], refused["b"]["s"]) == (8, "rate_limited")


async def test_what_is_too_large_is_not_kept_until_garbage_is_collected(log: SessionLog) -> None:
    text = json.dumps({"t": "d", "d": {"r": 1, "a": "s", "b": {"c": "x" * 2 * MB}}})
    async with guarded(log, anonymous="yes") as gateway, wire(gateway) as client:
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(10):
                await client.socket.send(text)
                assert (await client.data())["b"]["s"] == "message_too_large"
            assert tracemalloc.get_traced_memory()[0] < 10 * MB
        finally:
            tracemalloc.stop()
            gc.enable()


@pytest.mark.parametrize("padding", ["x" * 3_500_000, "ü" * 1000])
@pytest.mark.parametrize("segmented", [False, True])
async def test_a_message_that_is_too_large_is_told_so_and_the_connection_lives_on(
    log: SessionLog, padding: str, segmented: bool
) -> None:
    async with guarded(log, anonymous="yes", message_max_bytes=2000) as gateway, wire(gateway) as client:
        asked = {"r": 1, "a": "p", "b": {"p": f"/requests/{new_push_id()}", "d": {**WANTED, "padding": padding}}}
        text = json.dumps({"t": "d", "d": asked}, ensure_ascii=False)
        size = SEGMENT if len(text) > SEGMENT else 500
        segments = [text[at : at + size] for at in range(0, len(text), size)]
        for each in (str(len(segments)), *segments) if segmented else (text,):
            await client.socket.send(each)
        refused = {"s": "message_too_large", "d": "a message has at most 2000 bytes"}
        assert await client.data() == {"r": 1, "b": refused}
        await client.socket.send('{"t":"d","d":{"r":2,"a":"s","b":{}}}')
        assert await client.data() == {"r": 2, "b": {"s": "ok", "d": ""}}


async def test_a_message_that_goes_on_for_ever_ends_the_connection(log: SessionLog) -> None:
    async with guarded(log, anonymous="yes") as gateway, wire(gateway) as client:
        for text in ("200", '{"t":"d","d":{"r":1,', *["x" * 900_000] * 5):
            await client.socket.send(text)
        assert (await client.receive())["d"]["t"] == "e"
        with pytest.raises(ConnectionClosed):
            await client.receive()
        assert client.socket.close_code == 1009
