"""How webhooks are asked for, by REST, WebSocket and Firebase, and who may see what became of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx2
import pytest
from standardwebhooks import Webhook
from websockets.asyncio.client import connect

from libs.common import subjects
from libs.common.messages import RequestRecord
from libs.common.session_log import SessionLog
from services.gateway.firebase.requests import new_push_id
from services.gateway.webhooks.signing import Secrets
from tests.integration.firebase_gateway import firebase_gateway
from tests.integration.gateway_process import ask, receive_event
from tests.integration.rest_gateway import WANTED, begin, http_client, problem, rest_gateway

URL = "https://receiver.example/hooks?token=for-us"
SECRETS = Secrets([b"k" * 32])


@pytest.fixture(autouse=True)
async def _nothing_is_left_to_be_posted(log: SessionLog) -> AsyncIterator[None]:
    yield
    await log.bus.purge(subjects.WEBHOOKS, subjects.ALL_WEBHOOKS)


async def test_rest_takes_a_callback_and_shows_it_to_whose_it_is(log: SessionLog) -> None:
    async with rest_gateway(log) as gateway, http_client(gateway) as nobody, http_client(gateway, "mia") as mia:
        anonymous = (await nobody.post("/v1/sessions", json={**WANTED, "callback_url": URL})).json()
        assert anonymous["webhook_secret"] == SECRETS.shown("", anonymous["session_id"])
        assert "webhook_secret" not in (await nobody.post("/v1/sessions", json=WANTED)).json()
        assert problem(await nobody.get("/v1/webhook-secret")) == (403, "nameless", None)
        named = await mia.post("/v1/sessions", json={**WANTED, "callback_url": URL})
        assert "webhook_secret" not in named.json()
        secret = (await mia.get("/v1/webhook-secret")).json()["webhook_secret"]
        assert secret == SECRETS.shown("mia")
        Webhook(secret)  # the library takes it
        session = named.json()["session_id"]
        shown = (await mia.get(f"/v1/sessions/{session}")).json()
        assert shown["callback"] == {"url": URL, "state": "pending"}
        async with http_client(gateway, "zoe") as zoe:
            assert problem(await zoe.get(f"/v1/sessions/{session}")) == (404, "unknown_session", "session_id")
        assert "callback" not in (await mia.get(f"/v1/sessions/{await begin(mia)}")).json()


async def test_a_refusal_names_the_field_everywhere(log: SessionLog) -> None:
    bad = {"search_query": "x", "callback_url": "https://[::ffff:127.0.0.1]/"}
    async with rest_gateway(log) as gateway, http_client(gateway) as client:
        assert problem(await client.post("/v1/sessions", json=bad)) == (422, "invalid_request", "callback_url")
        async with connect(f"ws://{gateway.address}/ws") as socket:
            await ask(socket, "initiate_extraction", **bad)
            assert (await receive_event(socket, "error"))["field"] == "parameters.callback_url"
            await ask(socket, "initiate_extraction", search_query="x", callback_url=URL)
            accepted = await receive_event(socket, "accepted")
            assert accepted["webhook_secret"] == SECRETS.shown("", accepted["session_id"])
    async with rest_gateway(log, webhooks=False) as gateway, http_client(gateway) as client:
        off = await client.post("/v1/sessions", json={**WANTED, "callback_url": URL})
        assert problem(off) == (422, "invalid_request", "callback_url")


async def test_a_key_is_for_one_callback(log: SessionLog, session: str) -> None:
    key = {"Idempotency-Key": session}
    async with rest_gateway(log) as gateway, http_client(gateway) as client:
        one = await begin(client, key, callback_url=URL)
        assert one == await begin(client, key, callback_url=URL)
        for other in ({}, {"callback_url": f"{URL}2"}):
            reused = await client.post("/v1/sessions", json={**WANTED, **other}, headers=key)
            assert problem(reused) == (422, "key_reused", "Idempotency-Key")
        waiting = subjects.webhook("", "", one)
        assert await log.bus.last(subjects.WEBHOOKS, waiting) is not None


async def test_firebase_takes_a_callback(log: SessionLog) -> None:
    async with (
        firebase_gateway(log) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, trust_env=False) as client,
    ):
        path = f"/requests/{new_push_id()}.json"
        refused = await client.put(path, content=json.dumps({"search_query": "x", "callback_url": "http://x.example"}))
        assert refused.status_code >= 400 and "callback_url" in refused.text
        assert (await client.put(path, content=json.dumps({"search_query": "x", "callback_url": URL}))).is_success
        there = (await client.get(path)).json()
        assert there["callback_url"] == URL
        assert there["webhook_secret"] == SECRETS.shown("", there["session_id"])
        record = await log.get(there["session_id"], subjects.REQUEST)
        assert record is not None and isinstance(record.message, RequestRecord)
        assert record.message.callback_url == URL
