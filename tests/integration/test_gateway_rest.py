"""REST over real sockets and a real broker; records are written as crawler and dedup do."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import connect

from libs.common import subjects
from libs.common.bus import Stored
from libs.common.messages import Board, CrawledRecord, Creator, Kind, Pin, Reason, Video, VideoRecord
from libs.common.session_log import SessionLog
from services.gateway.callers import Caller
from services.gateway.idempotency import keyed_session
from services.gateway.representations import COLUMNS
from tests.integration.gateway_process import GatewayProcess, ask, finish, give, give_many, receive
from tests.integration.raw_socket import RawSocket
from tests.integration.rest_gateway import WANTED, RestGateway, begin, http_client, problem, rest_gateway
from tests.wait import wait_until


@pytest.fixture
async def gateway(log: SessionLog) -> AsyncIterator[RestGateway]:
    async with rest_gateway(log) as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: RestGateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(gateway) as client:
        yield client


async def test_a_session_is_begun_shown_read_and_over(client: httpx2.AsyncClient, log: SessionLog) -> None:
    answer = await client.post("/v1/sessions", json={"search_query": " pots ", "result_limit": 2})
    assert answer.status_code == 201
    session = answer.json()["session_id"]
    assert answer.headers["location"] == f"/v1/sessions/{session}"
    stored = await log.bus.last(subjects.SEARCHES, subjects.search(session))
    assert stored is not None and json.loads(stored.body)["query"] == "pots"
    shown = (await client.get(answer.headers["location"])).json()
    assert (shown["state"], shown["search_query"], shown["result_limit"]) == ("queued", "pots", 2)
    assert shown["sequence"] == answer.json()["sequence"]
    sequences = [await give(log, session, n) for n in range(2)]
    ended = await finish(log, session, 2)
    shown = (await client.get(answer.headers["location"])).json()
    assert (shown["state"], shown["found"], shown["reason"]) == ("completed", 2, "limit")
    assert shown["summary"]["items"] == 2 and sequences[-1] < ended
    page = (await client.get(f"/v1/sessions/{session}/videos")).json()
    assert [video["sequence"] for video in page["videos"]] == sequences
    assert (page["next_after"], page["completed"]) == (sequences[-1], True)
    assert page["videos"][0]["video"]["id"] == f"{0:032x}"


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (b"{", 400, "invalid_json", "body"),
        (b'"\xff"', 400, "invalid_json", "body"),
        (b"[]", 422, "invalid_request", "body"),
        (b"{}", 422, "invalid_request", "search_query"),
        (b'{"search_query": "x", "result_limit": 0}', 422, "invalid_request", "result_limit"),
        (b'{"search_query": "x", "result_limit": "9"}', 422, "invalid_request", "result_limit"),
        (b'{"search_query": "x", "filters": {"min_height": 0}}', 422, "invalid_request", "filters.min_height"),
        (b'{"search_query": "x", "filters": {"colour": 1}}', 422, "invalid_request", "filters.colour"),
        (b'{"search_query": "x", "new_only": true}', 422, "invalid_request", "scope"),
        (b'{"url": "https://example.com/"}', 422, "invalid_request", "url"),
        (b'{"search_query": "' + b"x" * 70_000 + b'"}', 413, "too_large", "body"),
    ],
)
async def test_a_refusal_names_the_field(
    client: httpx2.AsyncClient, body: bytes, status: int, code: str, field: str
) -> None:
    answer = await client.post("/v1/sessions", content=body, headers={"Content-Type": "application/json"})
    assert problem(answer) == (status, code, field)
    assert "parameters" not in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "field"),
    [("after=-1", "after"), ("limit=0", "limit"), ("limit=10001", "limit"), ("wait=61", "wait"), ("wait=x", "wait"),
     ("after=99999999999999999999", "after"), ("limit=%D9%A3", "limit")],
)  # fmt: skip
async def test_a_refused_parameter_is_named(client: httpx2.AsyncClient, query: str, field: str) -> None:
    session = await begin(client)
    answer = await client.get(f"/v1/sessions/{session}/videos?{query}")
    assert problem(answer) == (422, "invalid_request", field)


async def test_an_address_as_it_is_told_to_a_proxy_is_understood(gateway: RestGateway, log: SessionLog) -> None:
    for target, status in (("/healthz", 200), ("/v1/nothing?a=1", 404), ("", 200), ("?a=1", 200)):
        async with RawSocket(gateway.address) as raw:
            raw.writer.write(f"GET HTTP://{gateway.address}{target} HTTP/1.1\r\nHost: other\r\n\r\n".encode())
            head = (await raw.reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert head.startswith(f"http/1.1 {status} "), (target, head)
            assert ("application/problem+json" in head) is (status == 404)


async def test_what_is_not_there_is_a_problem_too(client: httpx2.AsyncClient) -> None:
    assert problem(await client.get("/v1/nothing")) == (404, "not_found", None)
    assert problem(await client.get("/v1/sessions/" + "0" * 32)) == (404, "unknown_session", "session_id")
    assert problem(await client.get("/v1/sessions/a.b%3E")) == (404, "unknown_session", "session_id")
    assert problem(await client.delete("/v1/sessions/" + "0" * 32)) == (404, "unknown_session", "session_id")
    assert problem(await client.get("/v1/sessions/" + "0" * 32 + "/videos")) == (404, "unknown_session", "session_id")
    refused = await client.put("/v1/sessions", json={})
    assert problem(refused) == (405, "method_not_allowed", None) and "GET" in refused.headers["allow"]
    assert problem(await client.post("/v1/sessions", content=b"{}")) == (
        415, "unsupported_media_type", "Content-Type",
    )  # fmt: skip
    session = await begin(client)
    ahead = await client.get(f"/v1/sessions/{session}/videos?after=9000000000000000")
    assert problem(ahead) == (422, "unknown_sequence", "after")


async def test_a_session_of_anothers_is_not_there(gateway: RestGateway, log: SessionLog) -> None:
    async with http_client(gateway, "ann") as ann, http_client(gateway, "bob") as bob, http_client(gateway) as nobody:
        session = await begin(ann)
        await give(log, session, 1)
        one = f"/v1/sessions/{session}"
        for other in (bob, nobody):
            for path in (one, f"{one}/videos", f"{one}/events", f"{one}/events?after=1", f"{one}/videos?after=1"):
                told = problem(await other.get(path))
                assert told == problem(await other.get(path.replace(session, "0" * 32)))
                assert told in ((404, "unknown_session", "session_id"), (410, "expired", "session_id"))
            assert problem(await other.delete(one)) == (404, "unknown_session", "session_id")
        assert (await ann.get(one)).json()["state"] == "queued"
        assert len((await ann.get(f"{one}/videos")).json()["videos"]) == 1


async def test_ones_own_sessions_are_listed_in_pages(gateway: RestGateway, session: str) -> None:
    ann, bob = f"ann-{session}", f"bob {session} .*>"  # a name may be any text
    async with http_client(gateway, ann) as client, http_client(gateway, bob) as other:
        assert (await client.get("/v1/sessions")).json() == {"sessions": [], "next_after": None}
        begun = [await begin(client, result_limit=n) for n in range(1, 6)]
        theirs = await begin(other)
        found: list[str] = []
        path: str | None = "/v1/sessions?limit=2"
        while path:
            answer = await client.get(path)
            found += [one["session_id"] for one in answer.json()["sessions"]]
            path = answer.links["next"]["url"] if "next" in answer.links else None
        assert found == begun
        everything = (await client.get("/v1/sessions")).json()
        assert [one["result_limit"] for one in everything["sessions"]] == [1, 2, 3, 4, 5]
        assert everything["next_after"] is None
        assert [one["session_id"] for one in (await other.get("/v1/sessions")).json()["sessions"]] == [theirs]


async def test_a_list_says_how_many_videos_each_has_so_far(gateway: RestGateway, log: SessionLog, session: str) -> None:
    async with http_client(gateway, f"ann-{session}") as client:
        begun = [await begin(client) for _ in range(3)]
        for n, one in enumerate(begun):
            for video in range(n):
                await give(log, one, video)
        await finish(log, begun[2], 2)
        listed = (await client.get("/v1/sessions")).json()["sessions"]
        alone = [(await client.get(f"/v1/sessions/{one}")).json().get("found", 0) for one in begun]
    assert [one.get("found", 0) for one in listed] == alone == [0, 1, 2]


async def test_a_list_leaves_out_what_is_gone(gateway: RestGateway, log: SessionLog, session: str) -> None:
    async with http_client(gateway, f"ann-{session}") as client:
        gone, kept = await begin(client), await begin(client)
        await log.bus.purge(subjects.RESULTS, subjects.records_of(gone))
        assert [one["session_id"] for one in (await client.get("/v1/sessions")).json()["sessions"]] == [kept]


async def test_who_has_no_name_has_no_list(client: httpx2.AsyncClient) -> None:
    await begin(client)
    assert problem(await client.get("/v1/sessions")) == (403, "nameless", None)


async def test_a_key_is_one_session_of_its_caller(gateway: RestGateway, log: SessionLog, session: str) -> None:
    key = {"Idempotency-Key": session}
    async with (
        http_client(gateway, "ann") as ann,
        http_client(gateway, "bob") as bob,
        rest_gateway(log) as another,
        http_client(another, "ann") as elsewhere,
    ):
        answers = await asyncio.gather(
            *(one.post("/v1/sessions", json=WANTED, headers=key) for one in (ann, elsewhere) * 4)
        )
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == 1
        assert len({answer.headers["location"] for answer in answers}) == 1
        assert [answer.headers["idempotency-replayed"] for answer in answers].count("false") == 1
        begun = answers[0].json()["session_id"]
        _, _ = await begin(bob, key), await begin(ann)
        assert await begin(bob, key) != begun != await begin(ann)
        searches, _ = await log.bus.subjects_under(subjects.SEARCHES, subjects.search(begun))
        assert searches == {subjects.search(begun)}
        other = await elsewhere.post("/v1/sessions", json={**WANTED, "result_limit": 51}, headers=key)
        assert problem(other) == (422, "key_reused", "Idempotency-Key")
        same = await ann.post("/v1/sessions", json={**WANTED, "search_query": " ceramic glaze "}, headers=key)
        assert same.json()["session_id"] == begun  # it asks for the same
        await ann.delete(f"/v1/sessions/{begun}")
        assert await begin(ann, key) == begun  # though it is over
        listed = (await ann.get("/v1/sessions?limit=100")).json()["sessions"]
        assert [one["session_id"] for one in listed].count(begun) == 1


async def test_a_key_hands_on_a_request_that_was_only_stored(
    gateway: RestGateway, log: SessionLog, session: str
) -> None:
    async with http_client(gateway) as client:
        begun = await begin(client, {"Idempotency-Key": session})
        await log.bus.purge(subjects.SEARCHES, subjects.search(begun))  # as if the gateway had died before it
        assert await begin(client, {"Idempotency-Key": session}) == begun
        assert await log.bus.last(subjects.SEARCHES, subjects.search(begun)) is not None


@pytest.mark.parametrize("key", ["", "x" * 256, "two words", "\u00fc"])
async def test_a_key_that_is_none_is_refused(client: httpx2.AsyncClient, key: str) -> None:
    answer = await client.post("/v1/sessions", json=WANTED, headers={b"Idempotency-Key": key.encode("latin-1")})
    assert problem(answer) == (422, "invalid_request", "Idempotency-Key")


async def test_a_key_whose_session_is_half_gone_is_refused(
    client: httpx2.AsyncClient, log: SessionLog, session: str
) -> None:
    keyed = keyed_session(Caller(), session)
    await give(log, keyed, 1)  # the request is the oldest record, and goes first
    answer = await client.post("/v1/sessions", json=WANTED, headers={"Idempotency-Key": session})
    assert problem(answer) == (409, "key_ending", "Idempotency-Key")


async def test_a_key_lasts_through_a_restart(nats_url: str, tmp_path: Path, session: str) -> None:
    begun: set[str] = set()
    for _ in range(2):
        async with GatewayProcess(nats_url, tmp_path) as process:
            async with httpx2.AsyncClient(base_url=f"http://{process.address}", trust_env=False) as client:
                begun.add(await begin(client, {"Idempotency-Key": session}))
            process.kill()
            await process.ended()
    assert len(begun) == 1


async def videos(client: httpx2.AsyncClient, session: str, accept: str, query: str = "") -> httpx2.Response:
    answer = await client.get(f"/v1/sessions/{session}/videos{query}", headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    return answer


async def test_pages_hold_each_video_once(client: httpx2.AsyncClient, log: SessionLog) -> None:
    session = await begin(client)
    sequences = await give_many(log, session, range(25), 10)
    await finish(log, session, 25)
    found: list[int] = []
    path, pages, page = f"/v1/sessions/{session}/videos?limit=10", 0, {"completed": False}
    while not page["completed"]:
        answer = await client.get(path)
        page, pages = answer.json(), pages + 1
        found += [video["sequence"] for video in page["videos"]]
        assert ("next" in answer.links) is not page["completed"]
        path = answer.links["next"]["url"] if "next" in answer.links else path
    assert (found, pages) == (sequences, 3)


async def test_a_page_is_bounded_in_bytes(client: httpx2.AsyncClient, log: SessionLog) -> None:
    session = await begin(client)
    sequences = await give_many(log, session, range(8), 400_000)
    await finish(log, session, 8)
    found: list[int] = []
    completed = False
    while not completed:
        answer = await client.get(f"/v1/sessions/{session}/videos?limit=1000&after={found[-1] if found else 0}")
        assert len(answer.content) < 1.5 * 1024 * 1024
        found += [video["sequence"] for video in answer.json()["videos"]]
        completed = answer.json()["completed"]
    assert found == sequences


async def test_ndjson_has_a_video_a_line(client: httpx2.AsyncClient, log: SessionLog) -> None:
    session = await begin(client)
    sequences = await give_many(log, session, range(150), 10)
    answer = await videos(client, session, "application/x-ndjson;q=0.9, text/html, application/json;q=0.1")
    assert (answer.headers["content-type"], answer.headers["vary"]) == ("application/x-ndjson", "Accept")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["sequence"] for line in lines] == sequences
    assert set(lines[0]) == {"sequence", "video"}
    rest = await videos(client, session, "application/x-ndjson", f"?after={sequences[99]}&limit=20")
    assert [json.loads(line)["sequence"] for line in rest.text.splitlines()] == sequences[100:120]


HOSTILE = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    'a "quote", a comma\nand a line',
    "plain",
    "apart; or not ;-) well-known @ home",
    "\u00fcn\u00ef\U0001f3ba",
]


async def test_csv_has_fixed_columns_and_no_formulas(client: httpx2.AsyncClient, log: SessionLog) -> None:
    session = await begin(client)
    for n, title in enumerate(HOSTILE):
        pin = Pin(id=str(n), title=title, creator=Creator(username=title), board=Board(name=title))
        video = Video(id=f"{n:032x}", url="https://v1.pinimg.com/a.mp4", kind=Kind.MP4, verified=True, pin=pin)
        await log.create(session, subjects.VIDEO, VideoRecord(item=f"{n}-0", video=video), video.id)
    answer = await videos(client, session, "text/csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    rows = list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))
    assert list(rows[0]) == ["sequence", *COLUMNS]
    assert list(COLUMNS)[:4] == ["id", "kind", "verified", "url"]
    for row, title in zip(rows, HOSTILE, strict=True):
        for column in ("title", "creator", "board"):
            inert = title.replace("\t=", "\t'=").replace("\r=", "\r'=")
            assert row[column] == (title if title[0] in "apü" else f"'{inert}")
    assert (rows[0]["verified"], rows[0]["width"]) == ("true", "")


async def test_csv_has_no_formulas_where_it_is_split_at_semicolons(client: httpx2.AsyncClient, log: SessionLog) -> None:
    titles = ["A;=hyperlink(1)", "A;@SUM(1)", "A;+1;-1", "A;\t=1", "A\n=1;B", "A\r\n-1+2"]
    session = await begin(client)
    for n, title in enumerate(titles):
        pin = Pin(id=str(n), title=title, description="- one\n- two")
        video = Video(id=f"{n:032x}", url="https://v1.pinimg.com/a.mp4", kind=Kind.MP4, verified=True, pin=pin)
        await log.create(session, subjects.VIDEO, VideoRecord(item=f"{n}-0", video=video), video.id)
    text = (await videos(client, session, "text/csv")).text
    cells = [cell for line in text.splitlines() for cell in line.replace("\t", ";").split(";")]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@")) or (cell[:1] == "-" and cell[1:2] != " ")]
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["title"].replace("'", "") for row in rows] == titles
    assert {row["description"] for row in rows} == {"'- one\n- two"}


async def test_csv_of_nothing_is_its_header(client: httpx2.AsyncClient) -> None:
    answer = await videos(client, await begin(client), "text/csv")
    assert answer.text == ",".join(["sequence", *COLUMNS]) + "\r\n"
    empty = await videos(client, await begin(client), "application/x-ndjson")
    assert empty.content == b""


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "nonsense", "*/*;q=0"])
async def test_what_cannot_be_given_is_refused(client: httpx2.AsyncClient, accept: str) -> None:
    session = await begin(client)
    answer = await client.get(f"/v1/sessions/{session}/videos", headers={"Accept": accept})
    assert problem(answer) == (406, "not_acceptable", "Accept")


async def test_a_long_poll_answers_with_the_first_video(client: httpx2.AsyncClient, log: SessionLog) -> None:
    session = await begin(client)
    path = f"/v1/sessions/{session}/videos?wait=30"
    for n in range(3):
        waiting = asyncio.create_task(client.get(path))
        await wait_until(lambda: session in log._followers, "the request waits")
        sequence = await give(log, session, n)
        answer = await waiting
        page = answer.json()
        assert [video["sequence"] for video in page["videos"]] == [sequence]
        assert (page["next_after"], page["completed"]) == (sequence, False)
        path = answer.links["next"]["url"]
        assert "wait=30" in path
    waiting = asyncio.create_task(client.get(path))
    await wait_until(lambda: session in log._followers, "the request waits")
    await finish(log, session, 3)
    page = (await waiting).json()
    assert (page["videos"], page["completed"]) == ([], True)


async def test_a_long_poll_ends_in_time_without_a_video(client: httpx2.AsyncClient, log: SessionLog) -> None:
    session = await begin(client)
    started = time.monotonic()
    page = (await client.get(f"/v1/sessions/{session}/videos?wait=1")).json()
    assert 0.9 < time.monotonic() - started < 5
    assert (page["videos"], page["next_after"], page["completed"]) == ([], 0, False)
    assert session not in log._followers


async def test_delete_cancels_and_again_changes_nothing(client: httpx2.AsyncClient, log: SessionLog) -> None:
    session = await begin(client)
    sequence = await give(log, session, 1)
    for _ in range(2):
        answer = await client.delete(f"/v1/sessions/{session}")
        assert answer.status_code == 200
        assert (answer.json()["state"], answer.json()["reason"], answer.json()["found"]) == (
            "completed",
            "cancelled",
            1,
        )
    assert await log.bus.last(subjects.SEARCHES, subjects.search(session)) is None
    page = (await client.get(f"/v1/sessions/{session}/videos")).json()
    assert ([video["sequence"] for video in page["videos"]], page["completed"]) == ([sequence], True)


async def test_delete_leaves_what_is_over_as_it_is(client: httpx2.AsyncClient, log: SessionLog) -> None:
    session = await begin(client)
    await log.create(session, subjects.CRAWLED, CrawledRecord(reason=Reason.EXHAUSTED, items=0))
    assert (await client.delete(f"/v1/sessions/{session}")).json()["reason"] == "exhausted"


async def test_a_gateway_that_stops_takes_no_searches_and_ends_long_polls(
    gateway: RestGateway, client: httpx2.AsyncClient, log: SessionLog
) -> None:
    session = await begin(client)
    waiting = asyncio.create_task(client.get(f"/v1/sessions/{session}/videos?wait=60"))
    await wait_until(lambda: session in log._followers, "the request waits")
    started = time.monotonic()
    draining = asyncio.create_task(gateway.rest.drain())
    await wait_until(lambda: gateway.rest.draining.refusing, "it drains")
    refused = await client.post("/v1/sessions", json=WANTED)
    assert problem(refused) == (503, "draining", None) and refused.headers["retry-after"] == "1"
    page = (await waiting).json()
    assert (page["videos"], page["completed"]) == ([], False)
    assert time.monotonic() - started < 10
    await draining


async def test_over_the_websocket_a_session_of_anothers_is_not_there_either(gateway: RestGateway) -> None:
    async with http_client(gateway, "ann") as ann:
        session = await begin(ann)
    for caller in ("bob", ""):
        headers = {"X-Caller": caller} if caller else {}
        async with connect(f"ws://{gateway.address}/ws", additional_headers=headers) as client:
            for operation in ("resume_extraction", "cancel_extraction"):
                await ask(client, operation, session_id=session)
                refused = await receive(client)
                assert (refused["event"], refused["code"]) == ("error", "unknown_session")
    async with connect(f"ws://{gateway.address}/ws", additional_headers={"X-Caller": "ann"}) as client:
        await ask(client, "resume_extraction", session_id=session)
        assert (await receive(client))["event"] == "progress"


async def test_a_session_that_is_read_page_by_page_is_read_once(gateway: RestGateway, log: SessionLog) -> None:
    read, once = 0, log.bus.read

    async def counted(stream: str, pattern: str, sequence: int, batch: int) -> list[Stored]:
        nonlocal read
        found = await once(stream, pattern, sequence, batch)
        read += len(found)
        return found

    async with http_client(gateway) as client:
        session = await begin(client, result_limit=1000)
        sequences = await give_many(log, session, range(600), 0)
        await finish(log, session, 600)
        log.bus.read = counted  # type: ignore[method-assign]
        try:
            seen, page = [], {"next_after": 0, "completed": False}
            while not page["completed"]:
                address = f"/v1/sessions/{session}/videos?limit=100&after={page['next_after']}"
                page = (await client.get(address)).json()
                seen += [video["sequence"] for video in page["videos"]]
        finally:
            log.bus.read = once  # type: ignore[method-assign]
        assert seen == sequences
        assert read < 1500  # 942 were; 3,068 with each page read from the session's start


async def test_a_page_is_the_same_at_a_gateway_that_has_no_bookmark(gateway: RestGateway, log: SessionLog) -> None:
    async with rest_gateway(log) as other, http_client(gateway) as client, http_client(other) as elsewhere:
        session = await begin(client)
        sequences = await give_many(log, session, range(6), 0)
        first = (await client.get(f"/v1/sessions/{session}/videos?limit=2")).json()
        assert len(gateway.rest.bookmarks) == 1
        second = f"/v1/sessions/{session}/videos?limit=2&after={first['next_after']}"
        pages = [(await one.get(second)).json() for one in (client, elsewhere, client)]
        assert pages[0] == pages[1] == pages[2]
        assert [video["sequence"] for video in pages[0]["videos"]] == sequences[2:4]
