"""Who may read what by Firebase's protocols, whose clients give their token before or after they have connected."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from libs.common import keys
from libs.common.session_log import SessionLog
from tests.integration.access import GuardedGateway, guarded
from tests.integration.firebase_gateway import begin, wire
from tests.wait import wait_until


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
        wanted = {"search_query": "cups", "result_limit": 1}
        assert (await client.post("/requests.json", json=wanted)).status_code == 401
        assert (await client.post("/requests.json", json=wanted, params={"auth": ann.text})).status_code == 200
    async with wire(gateway) as socket:
        assert (await socket.ask("p", p="/requests/-Nabcdefghijklmnopqr", d=wanted))["s"] == "invalid_token"
