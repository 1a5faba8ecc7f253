"""Firebase's REST way: values, and streams of events, over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from libs.common import subjects
from libs.common.messages import ProgressRecord, Reason
from libs.common.session_log import SessionLog
from services.gateway.firebase.hashes import hash_of
from services.gateway.firebase.requests import new_push_id
from services.gateway.storage import NO_ROOM
from tests.integration.firebase_gateway import FirebaseGateway, Names, begin, firebase_gateway, give_key
from tests.integration.gateway_process import finish, give_many
from tests.wait import wait_until

STREAM = {"Accept": "text/event-stream"}
DENIED = {"error": "Permission denied"}


@pytest.fixture
async def gateway(log: SessionLog) -> AsyncIterator[FirebaseGateway]:
    async with firebase_gateway(log, keep_alive_s=0.1) as gateway:
        yield gateway


@pytest.fixture
async def http(gateway: FirebaseGateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(gateway) as http:
        yield http


def client_of(gateway: FirebaseGateway) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=gateway.url, trust_env=False, timeout=10)


class Events:
    """The events of a stream, but for `keep-alive`."""

    def __init__(self, answer: httpx2.Response) -> None:
        self.lines = answer.aiter_lines()
        self.kept_alive = 0

    async def next(self) -> tuple[str, Any]:
        """The next one: its name and its data."""
        while True:
            async with asyncio.timeout(10):
                name, data, end = [await anext(self.lines) for _ in range(3)]
            assert (name[:7], data[:6], end) == ("event: ", "data: ", "")
            if name != "event: keep-alive":
                return name[7:], json.loads(data[6:])
            assert data == "data: null"
            self.kept_alive += 1


@asynccontextmanager
async def events(http: httpx2.AsyncClient, path: str, **query: str) -> AsyncIterator[Events]:
    async with http.stream("GET", path, params=query, headers=STREAM) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        yield Events(answer)


async def test_a_stream_begins_with_what_is_there_and_tells_what_comes(
    http: httpx2.AsyncClient, log: SessionLog, session: str
) -> None:
    await begin(log, session)
    first = await give_key(log, session, 1)
    async with events(http, f"/sessions/{session}.json", ns="pinstream") as stream:
        name, data = await stream.next()
        assert (name, data["path"], list(data["data"]["videos"])) == ("put", "/", [first])
        assert data["data"]["status"] == {"state": "queued"}
        second = await give_key(log, session, 2)
        name, data = await stream.next()
        assert (name, data["path"], data["data"]["id"]) == ("put", f"/videos/{second}", f"{2:032x}")
        assert await stream.next() == ("patch", {"path": "/stats", "data": {"found": 2}})
        await log.put(session, subjects.PROGRESS, ProgressRecord(state="crawling"))
        assert await stream.next() == ("patch", {"path": "/status", "data": {"state": "crawling"}})
        sequence = await finish(log, session, 2, Reason.LIMIT)
        name, data = await stream.next()
        assert (name, data["path"], data["data"]["items"]) == ("patch", "/stats", 2)
        ended = {"state": "completed", "reason": "limit", "sequence": sequence}
        assert await stream.next() == ("patch", {"path": "/status", "data": ended})


async def test_a_quiet_stream_is_kept_alive(http: httpx2.AsyncClient, log: SessionLog, session: str) -> None:
    await begin(log, session)
    async with events(http, f"/sessions/{session}/videos.json") as stream:
        assert await stream.next() == ("put", {"path": "/", "data": None})
        async with asyncio.timeout(10):
            quiet = [await anext(stream.lines) for _ in range(6)]
        assert quiet == ["event: keep-alive", "data: null", ""] * 2


async def test_a_stream_of_the_last_ones_tells_which_are_no_longer(
    http: httpx2.AsyncClient, log: SessionLog, session: str
) -> None:
    await begin(log, session)
    first = await give_key(log, session, 1)
    async with events(http, f"/sessions/{session}/videos.json", orderBy='"$key"', limitToLast="1") as stream:
        assert list((await stream.next())[1]["data"]) == [first]
        second = await give_key(log, session, 2)
        assert await stream.next() == ("put", {"path": f"/{first}", "data": None})
        assert (await stream.next())[1]["path"] == f"/{second}"


async def test_a_stream_resumes_after_a_key(http: httpx2.AsyncClient, log: SessionLog, session: str) -> None:
    await begin(log, session)
    keys = [await give_key(log, session, n) for n in range(3)]
    query = {"orderBy": '"$key"', "startAfter": json.dumps(keys[0])}
    async with events(http, f"/sessions/{session}/videos.json", **query) as stream:
        assert list((await stream.next())[1]["data"]) == keys[1:]


async def test_a_stream_of_what_is_no_longer_kept_is_cancelled(
    http: httpx2.AsyncClient, log: SessionLog, session: str
) -> None:
    await begin(log, session)
    async with events(http, f"/sessions/{session}.json") as stream:
        await stream.next()
        await log.bus.purge(subjects.RESULTS, subjects.records_of(session))
        name, why = await stream.next()
        assert name == "cancel" and "no longer kept" in why
        with pytest.raises(StopAsyncIteration):
            await anext(stream.lines)


async def test_a_stream_whose_token_is_no_longer_good_ends(log: SessionLog, session: str) -> None:
    names = Names(secret="mia")
    await begin(log, session, owner="mia")
    async with firebase_gateway(log, names, keep_alive_s=0.05) as gateway, client_of(gateway) as http:
        refused = await http.get(f"/sessions/{session}.json?auth=wrong", headers=STREAM)
        assert refused.status_code == 401 and "error" in refused.json()
        assert (await http.get(f"/sessions/{session}.json")).json() is None
        for query in ({"auth": "secret"}, {"access_token": "secret"}):
            assert (await http.get(f"/sessions/{session}/status/state.json", params=query)).json() == "queued"
        bearer = {"Authorization": "Bearer secret"}
        assert (await http.get(f"/sessions/{session}/status/state.json", headers=bearer)).json() == "queued"
        async with events(http, f"/sessions/{session}.json", auth="secret") as stream:
            assert (await stream.next())[1]["data"]["status"] == {"state": "queued"}
            names.revoke("secret")
            name, why = await stream.next()
            assert name == "auth_revoked" and isinstance(why, str)


async def test_a_stream_tells_of_trouble_with_the_storage(
    gateway: FirebaseGateway, http: httpx2.AsyncClient, log: SessionLog, session: str
) -> None:
    await begin(log, session)
    storage = gateway.firebase.requests.storage
    async with events(http, f"/sessions/{session}/status.json") as stream:
        assert (await stream.next())[1]["data"] == {"state": "queued"}
        storage._found(NO_ROOM)
        storage._found(NO_ROOM)
        waiting = {"state": "waiting", "waiting_for": NO_ROOM}
        assert await stream.next() == ("patch", {"path": "/", "data": waiting})
        storage._found(None)
        assert await stream.next() == ("patch", {"path": "/", "data": {"state": "queued", "waiting_for": None}})


async def test_a_gateway_that_stops_ends_its_streams(
    gateway: FirebaseGateway, http: httpx2.AsyncClient, log: SessionLog, session: str
) -> None:
    await begin(log, session)
    async with events(http, f"/sessions/{session}.json") as stream:
        await stream.next()
        await gateway.firebase.drain()
        with pytest.raises(StopAsyncIteration):
            while True:
                await anext(stream.lines)
    answer = await http.post("/requests.json", json={"search_query": "cats"})
    assert answer.status_code == 503 and "try again" in answer.json()["error"]


async def test_a_client_that_takes_nothing_is_let_go(gateway: FirebaseGateway, log: SessionLog, session: str) -> None:
    await begin(log, session, limit=1000)
    await give_many(log, session, range(128), 30_000)
    host, port = gateway.address.split(":")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with sock:
        sock.connect((host, int(port)))
        sock.sendall(f"GET /sessions/{session}.json HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n".encode())
        await wait_until(lambda: gateway.firebase.rest.streams == 1, "it streams")
        await wait_until(lambda: gateway.firebase.rest.streams == 0, "it is let go")


async def test_values_are_read_as_the_query_says(http: httpx2.AsyncClient, log: SessionLog, session: str) -> None:
    await begin(log, session)
    keys = [await give_key(log, session, n) for n in range(5)]
    path = f"/sessions/{session}/videos.json"

    async def selected(**query: Any) -> list[str]:
        answer = await http.get(path, params={"orderBy": '"$key"', **query})
        return list(answer.json() or ())

    assert list((await http.get(path)).json()) == keys
    assert await selected(limitToFirst=2) == keys[:2]
    assert await selected(limitToLast=2) == keys[3:]
    assert await selected(startAt=json.dumps(keys[1]), endAt=json.dumps(keys[3])) == keys[1:4]
    assert await selected(startAfter=json.dumps(keys[1]), endBefore=json.dumps(keys[3])) == keys[2:3]
    assert await selected(startAt=json.dumps(keys[1]), limitToLast=1) == keys[4:]
    assert await selected(equalTo=json.dumps(keys[2])) == [keys[2]]
    assert await selected(startAfter='"w"') == []
    assert (await http.get(path, params={"shallow": "true"})).json() == dict.fromkeys(keys, True)
    shallow = (await http.get(f"/sessions/{session}.json", params={"shallow": "true"})).json()
    assert shallow == {"videos": True, "stats": True, "status": True}
    assert (await http.get(f"/sessions/{session}/status.json?shallow=true")).json() == {"state": "queued"}
    pretty = await http.get(f"/sessions/{session}/status.json?print=pretty")
    assert pretty.text == '{\n  "state": "queued"\n}'
    assert (await http.get(f"/sessions/{session}.json?print=silent")).status_code == 204


@pytest.mark.parametrize(
    "query",
    [
        {"limitToFirst": "2"},
        {"orderBy": "$key"},
        {"orderBy": '"pin/title"'},
        {"orderBy": '"$key"', "startAt": "5"},
        {"orderBy": '"$key"', "equalTo": "null"},
        {"orderBy": '"$key"', "limitToFirst": "null"},
        {"orderBy": '"$key"', "limitToFirst": "2", "limitToLast": "2"},
        {"orderBy": '"$key"', "limitToFirst": "-1"},
        {"orderBy": '"$key"', "limitToFirst": "2", "shallow": "true"},
        {"orderBy": '"$priority"', "startAt": '"v"'},
    ],
)
async def test_a_query_that_is_not_answered_says_so(
    http: httpx2.AsyncClient, session: str, query: dict[str, str]
) -> None:
    answer = await http.get(f"/sessions/{session}/videos.json", params=query)
    assert answer.status_code == 400 and answer.json()["error"]


async def test_an_etag_says_whether_a_value_is_another(http: httpx2.AsyncClient, log: SessionLog, session: str) -> None:
    await begin(log, session)
    path = f"/sessions/{session}.json"
    answer = await http.get(path, headers={"X-Firebase-ETag": "true"})
    assert answer.headers["etag"] == hash_of(answer.json())
    assert (await http.get(path, headers={"If-None-Match": answer.headers["etag"]})).status_code == 304
    await give_key(log, session, 1)
    assert (await http.get(path, headers={"If-None-Match": answer.headers["etag"]})).status_code == 200
    assert (await http.get("/sessions/no.json", headers={"X-Firebase-ETag": "true"})).headers["etag"] == "null_etag"


async def test_a_post_begins_a_session_and_tells_which(http: httpx2.AsyncClient, log: SessionLog) -> None:
    answer = await http.post("/requests.json", json={"search_query": "cats", "result_limit": 3})
    push_id = answer.json()["name"]
    told = (await http.get(f"/requests/{push_id}.json")).json()
    assert (told["search_query"], told["result_limit"]) == ("cats", 3)
    assert await log.get(told["session_id"], subjects.REQUEST) is not None
    async with events(http, f"/requests/{push_id}/session_id.json") as stream:
        assert await stream.next() == ("put", {"path": "/", "data": told["session_id"]})
    put = await http.put(f"/requests/{push_id}.json", json={"search_query": "cats", "result_limit": 3})
    assert put.json() == told
    assert (await http.put(f"/requests/{push_id}.json", json={"search_query": "dogs"})).status_code == 401
    silent = await http.post("/requests.json?print=silent", json={"search_query": "cats"})
    assert silent.status_code == 204


async def test_what_is_posted_is_checked(http: httpx2.AsyncClient) -> None:
    assert (await http.post("/requests.json", content=b"{")).status_code == 400
    answer = await http.post("/requests.json", json={"search_query": "cats", "result_limit": 0})
    assert answer.status_code == 400 and "result_limit must be from 1" in answer.json()["error"]
    assert (await http.post("/requests.json", content=b"x" * 100_000)).status_code == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/.json"),
        ("GET", "/sessions.json"),
        ("GET", "/requests.json"),
        ("GET", "/users/1.json"),
        ("PUT", "/sessions/a/videos/v1.json"),
        ("PATCH", "/requests.json"),
        ("DELETE", f"/requests/{new_push_id()}.json"),
        ("POST", "/sessions.json"),
    ],
)
async def test_the_rest_of_the_tree_is_nobodys(http: httpx2.AsyncClient, method: str, path: str) -> None:
    for headers in ({}, STREAM):
        answer = await http.request(method, path, headers=headers, json={} if method != "GET" else None)
        assert (answer.status_code, answer.json()) == (401, DENIED)
    overridden = await http.request("POST", path, headers={"X-HTTP-Method-Override": method}, json={})
    assert (overridden.status_code, overridden.json()) == (401, DENIED)
