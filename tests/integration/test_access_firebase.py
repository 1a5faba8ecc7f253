"""Who may read what by Firebase's protocols, whose clients give their token before or after they have connected."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from libs.common import keys
from libs.common.session_log import SessionLog
from services.gateway.firebase.requests import new_push_id
from tests.integration.access import GuardedGateway, guarded
from tests.integration.firebase_gateway import begin, wire
from tests.wait import wait_until

WANTED = {"search_query": "cups", "result_limit": 1}


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
        assert (await client.get(one, params={"auth": ann.text})).json() == "queued"
        assert (await client.get(one, headers={"Authorization": "Bearer owner"})).json() is None
        assert (await client.get(one, headers={"Authorization": f"Bearer {ann.text}"})).json() == "queued"
        assert (await client.post("/requests.json", json=WANTED)).status_code == 401
        assert (await client.post("/requests.json", json=WANTED, params={"auth": ann.text})).status_code == 200
    async with wire(gateway) as socket:
        assert (await socket.ask("p", p="/requests/-Nabcdefghijklmnopqr", d=WANTED))["s"] == "invalid_token"


def client_of(gateway: GuardedGateway) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False)


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
