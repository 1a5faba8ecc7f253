"""Another's session in every way there is, and what is open when a key is revoked or a token expires; two gateways."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from libs.common import keys, subjects
from libs.common.messages import CrawledRecord, Reason
from libs.common.session_log import SessionLog
from services.gateway.firebase.requests import new_push_id
from tests.integration.access import GuardedGateway, Issuer, ask, guarded
from tests.integration.firebase_gateway import begin, wire
from tests.integration.gateway_process import give
from tests.integration.test_access import claims, made
from tests.wait import wait_until

WITHIN_S = 1.0


@pytest.fixture
async def gateway(log: SessionLog) -> AsyncIterator[GuardedGateway]:
    async with guarded(log, requests_per_minute=60_000.0) as gateway:
        yield gateway


@pytest.fixture
async def other_gateway(log: SessionLog) -> AsyncIterator[GuardedGateway]:
    async with guarded(log, requests_per_minute=60_000.0) as gateway:
        yield gateway


def http_of(gateway: GuardedGateway, token: str = "") -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False, headers=headers, timeout=20)


async def two_keys(*gateways: GuardedGateway) -> tuple[keys.Made, keys.Made]:
    """Of two owners, known at both."""
    one, two = await made(gateways[0]), await made(gateways[0])
    await wait_until(lambda: all(g.access.keyring.key(two.text) for g in gateways), "all know the keys")
    return one, two


BELOW = ("", "/videos", "/videos?wait=1", "/videos?after=1", "/events", "/events?after=1", "/nothing")
ACCEPTED = ("application/json", "application/x-ndjson", "text/csv", "text/event-stream", "image/png")
TREE = ("", "/videos", "/status", "/status/state", "/stats", "/stats/found", "/videos/v0000000001", "/x/y")
QUERIES = ("?shallow=true", '?orderBy="$key"&limitToFirst=2', '?orderBy="$key"&limitToLast=1', "?print=pretty")


async def test_nothing_over_http_tells_anothers_session_from_one_that_is_not_there(
    gateway: GuardedGateway, other_gateway: GuardedGateway, log: SessionLog, session: str
) -> None:
    mine, yours = await two_keys(gateway, other_gateway)
    running, over, absent = f"{session}r", f"{session}o", f"{session}a"
    for one in (running, over):
        await begin(log, one, owner=f"key:{mine.record.owner}")
        await give(log, one, 1)
    await log.create(over, subjects.CRAWLED, CrawledRecord(reason=Reason.LIMIT, items=1))
    async with http_of(other_gateway, yours.text) as thief, http_of(gateway, mine.text) as owner:

        async def answer(method: str, path: str, name: str, **headers: str) -> tuple[int, str, list[str]]:
            given = await thief.request(method, path.replace("<id>", name), headers=headers)
            told = [f"{key}: {value}" for key, value in given.headers.items() if key not in ("date", "content-length")]
            hidden = [text.replace(name, "<id>") for text in (given.text, *told)]
            return given.status_code, hidden[0], hidden[1:]

        ways: list[tuple[str, str, dict[str, str]]] = []
        for below in BELOW:
            for method in ("GET", "HEAD", "PUT", "DELETE"):
                ways.append((method, f"/v1/sessions/<id>{below}", {"Accept": "application/json"}))
        ways += [("GET", "/v1/sessions/<id>/videos", {"Accept": accept}) for accept in ACCEPTED]
        ways.append(("GET", "/v1/sessions/<id>/events", {"Last-Event-ID": "1"}))
        ways += [("GET", f"/sessions/<id>{path}.json", {}) for path in TREE]
        ways += [("GET", f"/sessions/<id>{path}.json{query}", {}) for path in TREE[:2] for query in QUERIES]
        ways.append(("GET", "/sessions/<id>.json", {"X-Firebase-ETag": "true"}))
        ways.append(("GET", "/sessions/<id>/videos.json", {"If-None-Match": "null_etag"}))
        for method in ("HEAD", "POST", "PUT", "PATCH", "DELETE"):
            ways.append((method, "/sessions/<id>.json", {}))
        for method, path, headers in ways:
            told = await asyncio.gather(*(answer(method, path, name, **headers) for name in (absent, running, over)))
            assert told[0] == told[1] == told[2], f"{method} {path}"
            assert told[0][0] >= 400 or told[0][1] in ("", "null", "null\n") or told[0][0] == 304, f"{method} {path}"
        assert (await thief.get("/v1/sessions")).json()["sessions"] == []
        shown = (await owner.get(f"/v1/sessions/{running}")).json()
        assert (shown["state"], shown["found"]) == ("queued", 1)  # all that was tried has changed nothing
        assert (await log.state(running)).cancelled is False


async def test_neither_a_key_of_idempotency_nor_a_push_id_leads_to_anothers_session(
    gateway: GuardedGateway, log: SessionLog, session: str
) -> None:
    mine, yours = await two_keys(gateway)
    push_id = new_push_id()
    wanted = {"search_query": session}
    async with http_of(gateway, mine.text) as owner, http_of(gateway, yours.text) as thief:
        key = {"Idempotency-Key": session}
        begun = [(await one.post("/v1/sessions", json=wanted, headers=key)).json() for one in (owner, thief)]
        assert begun[0]["session_id"] != begun[1]["session_id"]
        assert (await owner.put(f"/requests/{push_id}.json", json=wanted)).status_code == 200
        assert (await thief.get(f"/requests/{push_id}.json")).json() is None
        assert (await thief.get(f"/requests/{push_id}/session_id.json")).json() is None


async def test_nothing_over_firebases_socket_tells_anothers_session_either(
    gateway: GuardedGateway, log: SessionLog, session: str
) -> None:
    mine, yours = await two_keys(gateway)
    await begin(log, session, owner=f"key:{mine.record.owner}")
    await give(log, session, 1)
    absent = f"{session}a"
    async with wire(gateway) as thief:
        assert (await thief.ask("auth", cred=yours.text))["s"] == "ok"
        for path in TREE:
            told = []
            for name in (session, absent):
                got = await thief.ask("g", p=f"/sessions/{name}{path}", q={})
                heard = await thief.listen(f"/sessions/{name}{path}")
                by_hash = await thief.listen(f"/sessions/{name}{path}", h="9jOFOewFpIx50VzBwf6trzfb6cg=")
                told.append(json.dumps([got, heard, by_hash]).replace(name, "<id>"))
                for action in ("p", "m", "o", "om"):
                    refused = await thief.ask(action, p=f"/sessions/{name}{path}", d={"state": "x"})
                    assert refused["s"] == "permission_denied"
                await thief.ask("n", p=f"/sessions/{name}{path}")
            assert told[0] == told[1], path
        query = {"i": ".key", "l": 1, "vf": "r"}
        (told_last,) = await thief.listen(f"/sessions/{session}/videos", q=query, t=7)
        assert told_last["b"]["d"] is None
        await give(log, session, 2)
        assert (await thief.ask("s", c={}))["s"] == "ok"  # and nothing came before it


Open = Callable[[GuardedGateway, str, str], Any]


@asynccontextmanager
async def websocket(gateway: GuardedGateway, token: str, session: str) -> AsyncIterator[Any]:
    async with gateway.client(token) as client:
        assert (await ask(client, "resume_extraction", session_id=session))["event"] == "progress"

        async def ended() -> str:
            with suppress(ConnectionClosed):
                while True:
                    await client.recv()
            return str(client.close_code)

        yield ended


@asynccontextmanager
async def stream(gateway: GuardedGateway, token: str, path: str, first: str) -> AsyncIterator[Any]:
    """One over HTTP, which has begun; its last event, or what it ended with."""
    async with http_of(gateway, token) as client, client.stream("GET", path, headers=EVENTS) as answer:
        assert answer.status_code == 200
        lines = answer.aiter_lines()
        while not (await anext(lines)).startswith(first):
            pass

        async def ended() -> str:
            last = ""
            with suppress(httpx2.HTTPError, StopAsyncIteration):
                while True:
                    line = await anext(lines)
                    last = line.removeprefix("event: ") if line.startswith("event: ") else last
            return last

        yield ended


EVENTS = {"Accept": "text/event-stream"}


@asynccontextmanager
async def events(gateway: GuardedGateway, token: str, session: str) -> AsyncIterator[Any]:
    async with stream(gateway, token, f"/v1/sessions/{session}/events", "event: progress") as ended:
        yield ended


@asynccontextmanager
async def firebase_stream(gateway: GuardedGateway, token: str, session: str) -> AsyncIterator[Any]:
    async with stream(gateway, token, f"/sessions/{session}.json", "event: put") as ended:
        yield ended


@asynccontextmanager
async def firebase_stream_by_address(gateway: GuardedGateway, token: str, session: str) -> AsyncIterator[Any]:
    async with stream(gateway, "", f"/sessions/{session}.json?auth={token}", "event: put") as ended:
        yield ended


@asynccontextmanager
async def long_poll(gateway: GuardedGateway, token: str, session: str) -> AsyncIterator[Any]:
    async with http_of(gateway, token) as client:
        before = gateway.security.crowd._open
        waiting = asyncio.create_task(client.get(f"/v1/sessions/{session}/videos?wait=20"))
        await wait_until(lambda: gateway.security.crowd._open > before, "it has come in")

        async def ended() -> str:
            try:
                return str((await waiting).status_code)
            except httpx2.HTTPError:
                return "cut off"

        yield ended


@asynccontextmanager
async def firebase_socket(gateway: GuardedGateway, token: str, session: str) -> AsyncIterator[Any]:
    async with wire(gateway) as client:
        assert (await client.ask("auth", cred=token))["s"] == "ok"
        (told,) = await client.listen(f"/sessions/{session}/status")
        assert told["b"]["d"] == {"state": "queued"}

        async def ended() -> str:
            last = ""
            with suppress(ConnectionClosed):
                while True:
                    last = (await client.data())["a"]
            return last

        yield ended


@asynccontextmanager
async def firebase_socket_by_header(gateway: GuardedGateway, token: str, session: str) -> AsyncIterator[Any]:
    async with wire(gateway, headers={"Authorization": f"Bearer {token}"}) as client:
        (told,) = await client.listen(f"/sessions/{session}/status")
        assert told["b"]["d"] == {"state": "queued"}

        async def ended() -> str:
            last = ""
            with suppress(ConnectionClosed):
                while True:
                    last = (await client.data())["a"]
            return last

        yield ended


KINDS = {
    "websocket": (websocket, "4501"),
    "events": (events, ""),
    "long poll": (long_poll, "401"),
    "firebase stream": (firebase_stream, "auth_revoked"),
    "firebase stream by address": (firebase_stream_by_address, "auth_revoked"),
    "firebase socket": (firebase_socket, "ac"),
    "firebase socket by header": (firebase_socket_by_header, "ac"),
}


async def test_whatever_is_open_ends_everywhere_within_a_second_of_a_revocation(
    gateway: GuardedGateway, other_gateway: GuardedGateway, log: SessionLog, session: str
) -> None:
    revoked, kept = await two_keys(gateway, other_gateway)
    await begin(log, session, owner=f"key:{revoked.record.owner}")
    async with AsyncExitStack() as stack:
        waiting: dict[str, asyncio.Task[tuple[str, float]]] = {}

        async def timed(ended: Any) -> tuple[str, float]:
            return await ended(), time.monotonic()

        for place, one in (("here", gateway), ("there", other_gateway)):
            for kind, (opened, _) in KINDS.items():
                if kind != "long poll":
                    ended = await stack.enter_async_context(opened(one, revoked.text, session))
                    waiting[f"{kind} {place}"] = asyncio.create_task(timed(ended))
            ended = await stack.enter_async_context(long_poll(one, revoked.text, f"{session}"))
            waiting[f"long poll {place}"] = asyncio.create_task(timed(ended))
        neighbour = await stack.enter_async_context(other_gateway.client(kept.text))
        at = time.monotonic()
        await keys.revoke(log.bus, revoked.record.id)
        async with asyncio.timeout(10):
            told = {name: await task for name, task in waiting.items()}
        for name, (how, when) in told.items():
            assert how == KINDS[name.rsplit(" ", 1)[0]][1], name
            assert when - at < WITHIN_S, f"{name}: {when - at:.2f} s"
        assert (await ask(neighbour, "ping"))["event"] == "pong"


async def test_whatever_is_open_ends_with_its_jwt(log: SessionLog, session: str, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    async with guarded(log, **issuer.settings(jwt_leeway_s=0)) as gateway, AsyncExitStack() as stack:
        until = int(time.time()) + 3
        token = issuer.token(claims(exp=until))
        await begin(log, session, owner=(await gateway.access.caller_of_token(token)).owner)
        waiting = {}
        for kind, (opened, _) in KINDS.items():
            ended = await stack.enter_async_context(opened(gateway, token, session))
            waiting[kind] = asyncio.create_task(ended())
        async with asyncio.timeout(10):
            told = {kind: await task for kind, task in waiting.items()}
        assert until <= time.time() < until + WITHIN_S
        assert told == {kind: how for kind, (_, how) in KINDS.items()}
