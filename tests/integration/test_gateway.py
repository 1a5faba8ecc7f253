"""The gateway's protocol over real sockets and a real broker; records are written as crawler and dedup do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from libs.common import subjects
from libs.common.health import listen
from libs.common.messages import (
    CrawledRecord,
    Kind,
    Pin,
    ProgressRecord,
    Reason,
    RepeatRecord,
    SearchRequest,
    UnavailableRecord,
    Video,
    VideoRecord,
    decode,
)
from libs.common.session_log import SessionLog
from services.gateway.app import gateway_app
from services.gateway.server import client_server
from services.gateway.sessions import Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.storage import Storage
from services.gateway.websocket import WebSocketEndpoint


class Gateway:
    """A gateway at `url`."""

    def __init__(self, log: SessionLog, settings: GatewaySettings) -> None:
        self.storage = Storage(log, settings.storage_check_s)
        self.endpoint = WebSocketEndpoint(Sessions(log, settings.session_deadline_s), self.storage, settings)
        self.sock = listen("127.0.0.1", 0)
        self.address = f"127.0.0.1:{self.sock.getsockname()[1]}"
        self.url = f"ws://{self.address}/ws"
        self.ready = True
        app = gateway_app(self.endpoint, {"ready": lambda: self.ready})
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
    resume = {"operation": "resume_extraction", "parameters": {"session_id": session, "after": seen[-1]}}
    async with connect(other_gateway.url) as client:
        await client.send(json.dumps(resume))
        rest = [(await receive_event(client, "video"))["sequence"] for _ in range(4)]
        sequences.append(await give(log, session, 6))
        await finish(log, session, 7)
        frames = await to_completed(client)
        rest += [frame["sequence"] for frame in frames if frame["event"] == "video"]
    assert seen + rest == sequences
    async with connect(gateway.url) as client:  # and once more after the end
        await client.send(json.dumps(resume))
        again = await to_completed(client)
    assert [frame["sequence"] for frame in again if frame["event"] == "video"] == rest
    assert again[-1] == frames[-1]


async def test_a_sequence_that_lies_ahead_is_refused(gateway: Gateway) -> None:
    async with connect(gateway.url) as client:
        session = (await initiate(client))["session_id"]
        resume = {"operation": "resume_extraction", "parameters": {"session_id": session, "after": 10**9}}
        await client.send(json.dumps(resume))
        refused = await receive_event(client, "error")
    assert (refused["code"], refused["field"]) == ("unknown_sequence", "parameters.after")


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
        cancel = json.dumps({"operation": "cancel_extraction", "parameters": {"session_id": session}})
        await client.send(cancel)
        assert (await receive_event(client, "completed"))["reason"] == "cancelled"
        await client.send(cancel)
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


async def test_a_connection_follows_no_more_sessions_than_the_setting_says(log: SessionLog) -> None:
    gateway = Gateway(log, GatewaySettings(sessions_per_connection=2))
    async with gateway.server, connect(gateway.url) as client:
        sessions = [(await initiate(client))["session_id"] for _ in range(2)]
        resume = {"operation": "resume_extraction", "parameters": {"session_id": "f" * 32}}
        await client.send(json.dumps(resume))
        assert (await receive_event(client, "error"))["code"] == "too_many_sessions"
        for session in sessions:
            await finish(log, session, 0)
        assert {(await receive_event(client, "completed"))["session_id"] for _ in range(2)} == set(sessions)
        await initiate(client)
