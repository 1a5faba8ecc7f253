"""The gateway's protocol over real sockets and a real broker; records are written as crawler and dedup do."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from libs.client.client import Client
from libs.client.errors import RequestRefused
from libs.common import subjects
from libs.common.health import listen
from libs.common.messages import (
    CancelRecord,
    CrawledRecord,
    Kind,
    Lease,
    Pin,
    ProgressRecord,
    Reason,
    RepeatRecord,
    SearchRequest,
    UnavailableRecord,
    Video,
    VideoRecord,
    decode,
    encode,
)
from libs.common.session_log import SessionLog
from services.gateway.app import gateway_app
from services.gateway.rest import Rest
from services.gateway.server import client_server
from services.gateway.sessions import Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.storage import Storage
from services.gateway.websocket import WebSocketEndpoint
from tests.wait import wait_until


class Gateway:
    """A gateway at `url`."""

    def __init__(self, log: SessionLog, settings: GatewaySettings, check_s: float = 30.0) -> None:
        self.storage = Storage(log, settings.storage_check_s)
        sessions = Sessions(log, settings.session_deadline_s, check_s)
        self.endpoint = WebSocketEndpoint(sessions, self.storage, settings)
        self.sock = listen("127.0.0.1", 0)
        self.address = f"127.0.0.1:{self.sock.getsockname()[1]}"
        self.url = f"ws://{self.address}/ws"
        self.ready = True
        self.rest = Rest(sessions, self.storage, settings)
        app = gateway_app(self.endpoint, self.rest, {"ready": lambda: self.ready})
        self.server = client_server(app, self.sock, 5.0)


@pytest.fixture
async def gateway(log: SessionLog) -> AsyncIterator[Gateway]:
    gateway = Gateway(log, GatewaySettings())
    async with gateway.server:
        yield gateway


@pytest.fixture
async def other_gateway(log: SessionLog) -> AsyncIterator[Gateway]:
    gateway = Gateway(log, GatewaySettings())
    async with gateway.server:
        yield gateway


def video(signature: str, padding: int = 0) -> Video:
    url = f"https://v1.pinimg.com/{signature}.mp4"
    return Video(id=signature, url=url, kind=Kind.MP4, verified=True, pin=Pin(id="1", title="x" * padding))


async def give(log: SessionLog, session: str, n: int, padding: int = 0) -> int:
    record = VideoRecord(item=f"{n}-0", video=video(f"{n:032x}", padding))
    return await log.create(session, subjects.VIDEO, record, f"{n:032x}")


async def finish(log: SessionLog, session: str, items: int, reason: Reason = Reason.LIMIT) -> int:
    return await log.create(session, subjects.CRAWLED, CrawledRecord(reason=reason, items=items))


async def receive(client: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        frame: dict[str, Any] = json.loads(await client.recv())
        return frame


async def receive_event(client: ClientConnection, event: str) -> dict[str, Any]:
    while True:
        frame = await receive(client)
        if frame["event"] == event:
            return frame


async def to_completed(client: ClientConnection) -> list[dict[str, Any]]:
    frames: list[dict[str, Any]] = []
    while not frames or frames[-1]["event"] != "completed":
        frames.append(await receive(client))
    return frames


async def initiate(client: ClientConnection, **parameters: Any) -> dict[str, Any]:
    wanted = {"search_query": "ceramic glaze", "result_limit": 50, **parameters}
    await client.send(json.dumps({"operation": "initiate_extraction", "parameters": wanted}))
    return await receive_event(client, "accepted")


def resume(session: str, after: int) -> str:
    return json.dumps({"operation": "resume_extraction", "parameters": {"session_id": session, "after": after}})


def cancel(session: str) -> str:
    return json.dumps({"operation": "cancel_extraction", "parameters": {"session_id": session}})


async def test_a_session_goes_from_accepted_to_completed(gateway: Gateway, log: SessionLog) -> None:
    async with connect(gateway.url) as client:
        parameters = '{"search_query": " pots ", "result_limit": 2}'
        await client.send(f'{{"operation": "initiate_extraction", "parameters": {parameters}, "id": "a"}}')
        accepted = await receive(client)
        session = accepted["session_id"]
        assert accepted == {
            "event": "accepted",
            "id": "a",
            "session_id": session,
            "sequence": accepted["sequence"],
        }
        stored = await log.bus.last(subjects.SEARCHES, subjects.search(session))
        assert stored is not None
        handed_on = decode(stored.body, SearchRequest)
        assert (handed_on.query, handed_on.result_limit) == ("pots", 2)
        await log.put(session, subjects.PROGRESS, ProgressRecord(state="crawling", pages=1))
        first = await give(log, session, 1)
        await log.create(session, subjects.REPEAT, RepeatRecord(item="7-0", signature="ab"), "7-0")
        await log.create(session, subjects.UNAVAILABLE, UnavailableRecord(item="8-0", reason="x"), "8-0")
        second = await give(log, session, 2)
        last = await finish(log, session, 4)
        frames = await to_completed(client)
    videos = [frame for frame in frames if frame["event"] == "video"]
    assert [frame["sequence"] for frame in videos] == [first, second]
    assert videos[0]["video"]["url"] == f"https://v1.pinimg.com/{1:032x}.mp4"
    assert set(videos[0]) == {"event", "id", "session_id", "sequence", "video"}
    assert {"found", "repeats", "unavailable", "state", "session_id"} <= set(
        next(frame for frame in frames if frame["event"] == "progress")
    )
    completed = frames[-1]
    assert (completed["reason"], completed["sequence"], completed["id"]) == ("limit", last, "a")
    assert {key: completed["summary"][key] for key in ("found", "repeats", "unavailable", "items")} == {
        "found": 2,
        "repeats": 1,
        "unavailable": 1,
        "items": 4,
    }
    assert completed["summary"]["first_video_s"] >= 0


async def test_an_address_is_handed_on_instead_of_a_topic(log: SessionLog) -> None:
    gateway = Gateway(log, GatewaySettings(site_url="http://127.0.0.1:8800"))
    async with gateway.server, connect(gateway.url) as client:
        for url in ("http://127.0.0.1:8800/mia/glazes/", "https://de.pinterest.com/pin/12/#related"):
            parameters = {"url": f" {url} ", "result_limit": 3}
            await client.send(json.dumps({"operation": "initiate_extraction", "parameters": parameters}))
            session = (await receive_event(client, "accepted"))["session_id"]
            stored = await log.bus.last(subjects.SEARCHES, subjects.search(session))
            assert stored is not None
            handed_on = decode(stored.body, SearchRequest)
            assert (handed_on.query, handed_on.url, handed_on.result_limit) == ("", url, 3)


async def test_bad_input_is_answered_by_field_and_the_connection_lives_on(gateway: Gateway) -> None:
    def asked(**parameters: Any) -> str:
        return json.dumps({"operation": "initiate_extraction", "parameters": parameters})

    bad: list[tuple[str | bytes, str]] = [
        ("hello", "message"),
        ("[]", "message"),
        (b"\x00\x01", "message"),
        ("x" * 1_000_000, "message"),
        (asked(search_query="x" * 1_000_000), "parameters.search_query"),
        (asked(), "parameters.search_query"),
        (asked(url="https://example.com/mia/"), "parameters.url"),
        (asked(url="https://pin.it/a", search_query="x"), "parameters.url"),
        (asked(search_query="x", result_limit=0), "parameters.result_limit"),
        (asked(search_query="x", result_limit=-1), "parameters.result_limit"),
        (asked(search_query="x", result_limit=10**9), "parameters.result_limit"),
        (asked(search_query="x", result_limit="abc"), "parameters.result_limit"),
        ('{"operation": "dance"}', "operation"),
        ('{"operation": "resume_extraction", "parameters": {"session_id": "nobody"}}', "parameters.session_id"),
        ('{"operation": "cancel_extraction", "parameters": {"session_id": "nobody"}}', "parameters.session_id"),
    ]
    async with connect(gateway.url, max_size=None) as client:
        for message, field in bad:
            await client.send(message)
            frame = await receive(client)
            assert (frame["event"], frame["field"]) == ("error", field), str(message)[:80]
            assert frame["message"]
            assert frame["code"]
        await client.send('{"operation": "ping", "id": [1, {"a": null}]}')
        assert await receive(client) == {"event": "pong", "id": [1, {"a": None}]}


async def test_a_client_resumes_after_what_it_saw_at_any_gateway(
    gateway: Gateway, other_gateway: Gateway, log: SessionLog
) -> None:
    async with connect(gateway.url) as client:
        session = (await initiate(client))["session_id"]
        sequences = [await give(log, session, n) for n in range(3)]
        seen = [(await receive_event(client, "video"))["sequence"] for _ in range(2)]
    assert seen == sequences[:2]
    sequences += [await give(log, session, n) for n in range(3, 6)]
    async with connect(other_gateway.url) as client:
        await client.send(resume(session, seen[-1]))
        rest = [(await receive_event(client, "video"))["sequence"] for _ in range(4)]
        sequences.append(await give(log, session, 6))
        await finish(log, session, 7)
        frames = await to_completed(client)
        rest += [frame["sequence"] for frame in frames if frame["event"] == "video"]
    assert seen + rest == sequences
    async with connect(gateway.url) as client:  # and once more after the end
        await client.send(resume(session, seen[1]))
        again = await to_completed(client)
    assert [frame["sequence"] for frame in again if frame["event"] == "video"] == rest
    assert again[-1] == frames[-1]


async def test_a_sequence_that_lies_ahead_is_refused(gateway: Gateway) -> None:
    async with connect(gateway.url) as client:
        session = (await initiate(client))["session_id"]
        await client.send(resume(session, 10**9))
        refused = await receive_event(client, "error")
    assert (refused["code"], refused["field"]) == ("unknown_sequence", "parameters.after")


async def test_a_session_whose_records_are_gone_cannot_be_resumed_and_says_so(
    gateway: Gateway, log: SessionLog
) -> None:
    async with connect(gateway.url) as client:
        session = (await initiate(client))["session_id"]
        sequence = await give(log, session, 1)
        await receive_event(client, "video")
    await give(log, session, 2)
    await log.bus.purge(subjects.RESULTS, subjects.record(session, subjects.REQUEST))  # the oldest one goes first
    async with connect(gateway.url) as client:
        await client.send(resume(session, sequence))
        refused = await receive(client)
        assert (refused["event"], refused["code"], refused["field"]) == ("error", "expired", "parameters.after")
        assert (refused["session_id"], "new search" in refused["message"]) == (session, True)
        await client.send(resume(session, 0))
        assert (await receive(client))["code"] == "unknown_session"
        await initiate(client)
    with pytest.raises(RequestRefused, match="new search") as told:
        [found async for found in Client(gateway.url).follow(session, after=sequence)]
    assert told.value.code == "expired"


async def test_a_client_that_follows_a_session_is_told_when_its_records_are_removed(log: SessionLog) -> None:
    gateway = Gateway(log, GatewaySettings(), check_s=0.3)
    async with gateway.server, connect(gateway.url) as client, connect(gateway.url) as other:
        gone, kept = (await initiate(client))["session_id"], (await initiate(other))["session_id"]
        await give(log, gone, 1)
        await receive_event(client, "video")
        await log.bus.purge(subjects.RESULTS, subjects.records_of(gone))
        told = await receive(client)
        assert (told["event"], told["code"], told["session_id"]) == ("error", "expired", gone)
        await give(log, kept, 1)
        assert (await receive(other))["event"] == "video"


@pytest.mark.parametrize("later", [0, 2])
async def test_completed_comes_once_whatever_a_client_resumes_after(
    gateway: Gateway, other_gateway: Gateway, log: SessionLog, later: int
) -> None:
    async with connect(gateway.url) as client:
        session = (await initiate(client))["session_id"]
        first = await give(log, session, 1)
        end = await finish(log, session, 1)
        completed = (await to_completed(client))[-1]
    assert completed["sequence"] == end
    newest = end
    for n in range(later):
        newest = await log.create(session, subjects.REPEAT, RepeatRecord(item=f"late-{n}", signature="ab"), f"late-{n}")
    for after in sorted({0, first - 1, first, end, newest}):
        async with connect(other_gateway.url) as client:
            await client.send(resume(session, after))
            frames = await to_completed(client)
            assert [frame["sequence"] for frame in frames if frame["event"] == "video"] == [first] * (after < first)
            assert frames[-1] == completed
            await client.send('{"operation": "ping"}')
            assert (await receive(client))["event"] == "pong"


CANCEL_MOMENTS = ["accepted", "queued", "middle", "crawled", "complete"]


@pytest.mark.parametrize("moment", CANCEL_MOMENTS)
async def test_a_cancel_at_any_moment_completes_the_session_once_for_all_who_follow_it(
    gateway: Gateway, other_gateway: Gateway, log: SessionLog, moment: str
) -> None:
    async with connect(gateway.url) as one, connect(other_gateway.url) as two, connect(gateway.url) as third:
        session = (await initiate(one))["session_id"]
        await two.send(resume(session, 0))
        if moment != "accepted":
            await log.put(session, subjects.PROGRESS, ProgressRecord(state="queued"))
            await receive_event(two, "progress")
        if moment in ("middle", "crawled", "complete"):
            await give(log, session, 1)
        if moment in ("crawled", "complete"):
            await finish(log, session, 1 if moment == "complete" else 2)
        reason = "limit" if moment == "complete" else "cancelled"
        if moment == "complete":
            ends = [await receive_event(client, "completed") for client in (one, two)]
        answers = []
        for _ in range(2):
            await third.send(cancel(session))
            answers.append(await receive_event(third, "completed"))
        if moment != "complete":
            ends = [await receive_event(client, "completed") for client in (one, two)]
        assert {end["reason"] for end in ends + answers} == {reason}
        assert len({end["sequence"] for end in ends + answers}) == 1
        for client in (one, two, third):
            await client.send('{"operation": "ping"}')
            assert (await receive(client))["event"] == "pong"
        if moment == "accepted":
            await give(log, session, 7)  # an item that was on its way changes nothing
            await two.send(resume(session, 0))
            assert [frame["event"] for frame in await to_completed(two)][-1] == "completed"
    left = await log.bus.last(subjects.SEARCHES, subjects.search(session))
    assert (left is None) is (moment != "complete")


@pytest.mark.parametrize("done", ["cancel", "end", "crawled"])
async def test_a_second_cancel_finishes_what_the_first_left(gateway: Gateway, log: SessionLog, done: str) -> None:
    async with connect(gateway.url) as client:
        session = (await initiate(client))["session_id"]
        await log.create(session, subjects.CANCEL, CancelRecord(requested_at=time.time()))
        if done != "cancel":
            lease = Lease(session=session, attempt="end", reason=Reason.CANCELLED, closed_by="gateway")
            await log.bus.publish(subjects.lease_end(session), encode(lease), create=True)
        if done == "crawled":
            await finish(log, session, 0, Reason.CANCELLED)
            assert (await receive_event(client, "completed"))["reason"] == "cancelled"
        await client.send(cancel(session))
        assert (await receive_event(client, "completed"))["reason"] == "cancelled"
        await client.send('{"operation": "ping"}')
        assert (await receive(client))["event"] == "pong"
    assert await log.bus.last(subjects.SEARCHES, subjects.search(session)) is None


async def test_two_sessions_share_a_connection(gateway: Gateway, log: SessionLog) -> None:
    async with connect(gateway.url) as client:
        one = (await initiate(client))["session_id"]
        two = (await initiate(client))["session_id"]
        await give(log, one, 1)
        await give(log, two, 1)
        frames = [await receive_event(client, "video") for _ in range(2)]
    assert {frame["session_id"] for frame in frames} == {one, two}


async def test_a_cancel_completes_the_session_once(gateway: Gateway, log: SessionLog) -> None:
    async with connect(gateway.url) as client:
        session = (await initiate(client))["session_id"]
        await give(log, session, 1)
        await receive_event(client, "video")
        await client.send(cancel(session))
        assert (await receive_event(client, "completed"))["reason"] == "cancelled"
        await client.send(cancel(session))
        await client.send('{"operation": "ping"}')
        frames = [await receive(client) for _ in range(2)]
        assert {frame["event"] for frame in frames} == {"completed", "pong"}  # the answer to the second cancel
    assert await log.bus.last(subjects.SEARCHES, subjects.search(session)) is None


async def test_the_subprotocol_is_optional_and_an_unknown_one_refused(gateway: Gateway) -> None:
    async with connect(gateway.url, subprotocols=["pinstream.v1"]) as client:  # type: ignore[list-item]
        assert client.subprotocol == "pinstream.v1"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(gateway.url, subprotocols=["pinstream.v9"]):  # type: ignore[list-item]
            pass
    assert refused.value.response.status_code == 403


async def test_a_draining_gateway_sends_its_clients_elsewhere(gateway: Gateway) -> None:
    async with connect(gateway.url) as client:
        await initiate(client)
        await gateway.endpoint.drain()
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await receive(client)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4012


async def test_a_client_that_takes_nothing_is_closed_with_4008_and_harms_nobody(log: SessionLog) -> None:
    gateway = Gateway(log, GatewaySettings(send_timeout_s=0.5))
    async with gateway.server, connect(gateway.url, max_queue=1) as slow, connect(gateway.url) as brisk:
        session = (await initiate(slow))["session_id"]
        follow = {"operation": "resume_extraction", "parameters": {"session_id": session}}
        await brisk.send(json.dumps(follow))
        reading = asyncio.create_task(to_completed(brisk))
        for n in range(0, 400, 40):
            await asyncio.gather(*(give(log, session, m, padding=100_000) for m in range(n, n + 40)))
        await finish(log, session, 400)
        frames = await reading
        assert len([frame for frame in frames if frame["event"] == "video"]) == 400
        await wait_until(lambda: len(gateway.endpoint.connections) == 1, "it is closed, though it reads nothing")
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await receive(slow)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4008


async def test_health_is_told_over_http(gateway: Gateway) -> None:
    async with httpx2.AsyncClient(base_url=f"http://{gateway.address}") as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        gateway.ready = False
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        assert "text/html" in (await client.get("/")).headers["content-type"]


async def test_a_cancel_is_answered_where_a_connection_follows_as_many_as_it_may(log: SessionLog) -> None:
    gateway = Gateway(log, GatewaySettings(sessions_per_connection=1))
    async with gateway.server, connect(gateway.url) as other, connect(gateway.url) as client:
        theirs = (await initiate(other))["session_id"]
        own = (await initiate(client))["session_id"]
        await client.send(cancel(theirs))
        completed = await receive_event(client, "completed")
        assert (completed["session_id"], completed["reason"]) == (theirs, "cancelled")
        await finish(log, own, 0)
        assert (await receive_event(client, "completed"))["session_id"] == own


async def test_each_of_two_operations_that_follow_a_session_is_completed(gateway: Gateway, log: SessionLog) -> None:
    def named(id_: Any, **operation: Any) -> str:
        return json.dumps({"id": id_, **operation})

    async with connect(gateway.url) as client:
        wanted = {"search_query": "pots"}
        await client.send(named("first", operation="initiate_extraction", parameters=wanted))
        session = (await receive_event(client, "accepted"))["session_id"]
        again = {"operation": "resume_extraction", "parameters": {"session_id": session, "after": 0}}
        await client.send(named("second", **again))
        await client.send(named("third", **again))
        await client.send(named("third", **again))
        await give(log, session, 1)
        assert (await receive_event(client, "video"))["id"] == "third"
        await finish(log, session, 1)
        frames = [await receive_event(client, "completed") for _ in range(3)]
        assert [frame["id"] for frame in frames] == ["first", "second", "third"]
        assert len({json.dumps({**frame, "id": None}) for frame in frames}) == 1
        await client.send('{"operation": "ping"}')
        assert (await receive(client))["event"] == "pong"


async def test_who_resumes_a_session_again_and_again_is_bounded(log: SessionLog) -> None:
    gateway = Gateway(log, GatewaySettings(sessions_per_connection=1))
    async with gateway.server, connect(gateway.url) as client:
        session = (await initiate(client))["session_id"]
        for id_ in range(2):
            await client.send(json.dumps({"id": id_, **json.loads(resume(session, 0))}))
        refused = await receive_event(client, "error")
        assert (refused["id"], refused["code"]) == (1, "too_many_sessions")
        await finish(log, session, 0)
        assert [(await receive_event(client, "completed")).get("id") for _ in range(2)] == [None, 0]


async def test_a_connection_follows_no_more_sessions_than_the_setting_says(log: SessionLog) -> None:
    gateway = Gateway(log, GatewaySettings(sessions_per_connection=2))
    async with gateway.server, connect(gateway.url) as client:
        sessions = [(await initiate(client))["session_id"] for _ in range(2)]
        await client.send(resume("f" * 32, 0))
        assert (await receive_event(client, "error"))["code"] == "too_many_sessions"
        for session in sessions:
            await finish(log, session, 0)
        assert {(await receive_event(client, "completed"))["session_id"] for _ in range(2)} == set(sessions)
        await initiate(client)
