"""Server-sent events: over bare sockets, and with Chromium's own EventSource, through restarts of the gateway."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import async_playwright

from libs.common import keys
from libs.common.session_log import SessionLog
from tests.integration.event_source import EventClient
from tests.integration.gateway_process import GatewayProcess, finish, give, give_many
from tests.integration.rest_gateway import RestGateway, begin, http_client, rest_gateway
from tests.wait import wait_for, wait_until

MB = 1024 * 1024


@pytest.fixture
async def gateway(log: SessionLog) -> AsyncIterator[RestGateway]:
    async with rest_gateway(log) as gateway:
        yield gateway


async def begun(gateway: RestGateway) -> str:
    async with http_client(gateway) as client:
        return await begin(client)


async def test_events_come_as_they_happen_and_end(gateway: RestGateway, log: SessionLog) -> None:
    session = await begun(gateway)
    async with EventClient(gateway.port, session) as client:
        assert (client.status, client.answered["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert client.answered["cache-control"] == "no-store"
        first = await client.next()
        assert first is not None and (first.event, first.id, first.data["state"]) == ("progress", None, "queued")
        assert client.retry_ms == [2000]
        for n in range(3):
            sequence = await give(log, session, n)
            video = await client.next()
            assert video is not None and (video.event, video.id) == ("video", str(sequence))
            assert video.data["sequence"] == sequence and video.data["video"]["id"] == f"{n:032x}"
        await finish(log, session, 3)
        completed = (await client.to_end())[-1]
        assert (completed.event, completed.data["reason"]) == ("completed", "limit")
        assert completed.id == str(completed.data["sequence"])


async def test_who_comes_back_gets_the_rest_and_then_204(gateway: RestGateway, log: SessionLog) -> None:
    session = await begun(gateway)
    sequences = await give_many(log, session, range(4), 10)
    for where in ("header", "query"):
        last = str(sequences[1])
        if where == "header":
            source = EventClient(gateway.port, session, Last_Event_ID=last)
        else:
            source = EventClient(gateway.port, session, query=f"?after={last}")
        async with source as client:
            seen = [await client.next(), await client.next()]
            assert [one.id for one in seen if one] == [str(sequence) for sequence in sequences[2:]]
    await finish(log, session, 4)
    async with EventClient(gateway.port, session, query="?after=0", Last_Event_ID=str(sequences[-1])) as client:
        rest = await client.to_end()
        assert [one.event for one in rest] == ["completed"]
    async with EventClient(gateway.port, session, Last_Event_ID=rest[0].id or "") as client:
        assert client.status == 204


@pytest.mark.parametrize(
    ("session", "last", "status"),
    [("0" * 32, "", 404), ("0" * 32, "5", 410), (None, "x", 422), (None, "9000000000000000", 422)],
)
async def test_what_will_not_pass_is_a_problem(gateway: RestGateway, session: str, last: str, status: int) -> None:
    session = session or await begun(gateway)
    async with EventClient(gateway.port, session, Last_Event_ID=last) as client:
        assert (client.status, client.answered["content-type"]) == (status, "application/problem+json")


@pytest.mark.parametrize(
    ("query", "last", "field"),
    [("", "99999999", "Last-Event-ID"), ("?after=99999999", "", "after"), ("?after=1", "99999999", "Last-Event-ID")],
)
async def test_what_lies_ahead_of_the_log_is_named(gateway: RestGateway, query: str, last: str, field: str) -> None:
    async with EventClient(gateway.port, await begun(gateway), query=query, Last_Event_ID=last) as client:
        assert client.status == 422
        told = json.loads(await client.reader.readexactly(int(client.answered["content-length"])))
        assert (told["code"], told["field"]) == ("unknown_sequence", field)


async def test_silence_is_filled_with_comments(log: SessionLog) -> None:
    async with rest_gateway(log, events_heartbeat_s=0.05) as gateway, AsyncExitStack() as running:
        session = await begun(gateway)
        client = await running.enter_async_context(EventClient(gateway.port, session))
        ended = asyncio.create_task(client.to_end())
        await wait_until(lambda: len(client.comments) > 3, "heartbeats come")
        await finish(log, session, 0)
        assert [one.event for one in await ended] == ["progress", "completed"]


async def test_head_is_answered_without_a_stream(gateway: RestGateway) -> None:
    async with http_client(gateway) as client:
        answer = await client.head(f"/v1/sessions/{await begin(client)}/events")
        assert (answer.status_code, answer.content) == (200, b"")


async def test_a_client_that_leaves_is_forgotten(gateway: RestGateway, log: SessionLog) -> None:
    session = await begun(gateway)
    async with EventClient(gateway.port, session) as client:
        await client.next()
        assert session in log._followers
    await wait_until(lambda: session not in log._followers, "nobody follows")
    assert not gateway.storage._listeners


async def test_a_gateway_that_stops_ends_streams_and_says_when_to_come_back(
    gateway: RestGateway, log: SessionLog
) -> None:
    session = await begun(gateway)
    await give(log, session, 1)
    async with EventClient(gateway.port, session) as client:
        while (event := await client.next()) is not None and event.event != "video":
            pass
        draining = asyncio.create_task(gateway.rest.drain())
        assert await client.to_end() == []
        assert len(client.retry_ms) == 2 and 0 < client.retry_ms[1] <= 1000
        await draining
    async with EventClient(gateway.port, session) as late:
        assert (late.status, await late.to_end()) == (200, [])  # anything else would end an EventSource for good
        assert len(late.retry_ms) == 1


async def test_trouble_of_the_broker_is_told(gateway: RestGateway) -> None:
    session = await begun(gateway)
    async with EventClient(gateway.port, session) as client:
        await client.next()
        gateway.storage._found("the broker has no room")
        gateway.storage._found("the broker has no room")
        waiting = await client.next()
        assert waiting is not None and waiting.data["waiting_for"] == "the broker has no room"
        gateway.storage._found(None)
        again = await client.next()
        assert again is not None and again.data["state"] == "queued"


@pytest.mark.parametrize("kind", ["events", "videos"])
async def test_a_client_that_takes_nothing_is_dropped_and_costs_little(
    nats_url: str, log: SessionLog, tmp_path: Path, kind: str
) -> None:
    async with GatewayProcess(nats_url, tmp_path, send_timeout_s=1.0) as process, AsyncExitStack() as clients:
        session, _ = await begun_at(process)
        before = process.resident_bytes
        many = 200
        if kind == "events":
            client = EventClient(process.port, session, held_bytes=4096)
            await clients.enter_async_context(client)
        sequences = await give_many(log, session, range(many), 100_000)
        if kind == "videos":
            client = EventClient(process.port, session, held_bytes=4096, Accept="application/x-ndjson")
            client.path = f"/v1/sessions/{session}/videos"
            client.headers = {"Accept": "application/x-ndjson"}
            await clients.enter_async_context(client)
        await wait_until(lambda: '"client too slow"' in process.said, "it is dropped", timeout_s=15)
        assert process.resident_bytes - before < 24 * MB
        here = client.writer.get_extra_info("sockname")[1]
        await wait_until(lambda: here not in process.clients, "what it has not read is given up", timeout_s=5)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):  # not an end that looks whole
            while await client._more():
                client._text = b""
        if kind == "events":
            await finish(log, session, many)
            async with EventClient(process.port, session) as again:
                seen = [one.id for one in await again.to_end() if one.event == "video"]
            assert seen == [str(sequence) for sequence in sequences]


async def begun_at(process: GatewayProcess, key: str = "") -> tuple[str, str]:
    """The id of a session, and what the address of an EventSource has to end with."""
    headers = {"X-API-Key": key} if key else {}
    async with httpx2.AsyncClient(base_url=f"http://{process.address}", trust_env=False, headers=headers) as client:
        session = await begin(client)
        if not key:
            return session, ""
        return session, f"?ticket={(await client.post('/v1/tickets')).json()['ticket']}"


FOLLOW = """
([session, query]) => {
  window.seen = []; window.opened = 0; window.errors = [];
  const source = window.source = new EventSource(`/v1/sessions/${session}/events${query}`);
  source.onopen = () => { window.opened += 1; };
  source.onerror = () => { window.errors.push(source.readyState); };
  source.addEventListener("video", (event) => window.seen.push(Number(event.lastEventId)));
  source.addEventListener("completed", (event) => { window.completed = JSON.parse(event.data); });
}
"""


@pytest.mark.parametrize("anonymous", ["loopback", "no"], ids=["without a key", "with a ticket"])
async def test_an_event_source_goes_on_through_restarts_and_stops_at_the_end(
    nats_url: str, log: SessionLog, tmp_path: Path, anonymous: str
) -> None:
    async with AsyncExitStack() as running:
        key = (await keys.create(log.bus, "test")).text if anonymous == "no" else ""
        process = GatewayProcess(nats_url, tmp_path, anonymous=anonymous)
        await process.__aenter__()
        running.push_async_callback(lambda: _stopped(process))
        browsers = await running.enter_async_context(async_playwright())
        browser = await browsers.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        running.push_async_callback(browser.close)
        page = await browser.new_page()
        await page.goto(f"http://{process.address}/docs")
        session, query = await begun_at(process, key)
        await page.evaluate(FOLLOW, [session, query])
        given = [await give(log, session, n) for n in range(5)]

        async def seen(many: int) -> None:
            async def enough() -> bool:
                return len(await page.evaluate("window.seen")) >= many

            await wait_for(enough, f"the page has seen {many}", timeout_s=40)

        await seen(5)
        process.kill()  # without a word
        await process.ended()
        process.output.unlink()
        given += [await give(log, session, n) for n in range(5, 10)]
        await process.__aenter__()
        await seen(10)
        process.terminate()  # with a retry
        await process.ended()
        given += [await give(log, session, n) for n in range(10, 15)]
        process.output.unlink()
        await process.__aenter__()
        await seen(15)
        await finish(log, session, 15)

        async def says(what: str) -> bool:  # the page lets no function of Playwright's evaluate text
            return bool(await page.evaluate(what))

        await wait_for(partial(says, "Boolean(window.completed)"), "the page has seen the end", timeout_s=40)
        started = time.monotonic()
        closed = partial(says, "window.source.readyState === EventSource.CLOSED")
        await wait_for(closed, "the source is closed", timeout_s=20)
        print(f"closed {time.monotonic() - started:.1f} s after the end")
        assert await page.evaluate("window.seen") == given
        assert (await page.evaluate("window.completed"))["summary"]["found"] == 15
        assert await page.evaluate("window.opened") >= 3


async def _stopped(process: GatewayProcess) -> None:
    process.kill()
    await process.ended()
