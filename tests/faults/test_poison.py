"""Poison: messages that are none, on every subject, and an item that ends whoever handles it."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from libs.client.broker import Broker
from libs.client.client import Client
from libs.client.local import LocalOptions, LocalStack
from libs.common import subjects
from libs.common.bus import Bus, connect
from libs.common.dead_letters import Letter, letters
from libs.common.errors import AlreadyExists
from libs.common.messages import Pin, RawMedia, Reason, RequestRecord, SearchRequest, UnavailableRecord, encode
from libs.common.session_log import SessionLog
from libs.common.settings import Settings
from libs.common.streams import set_up
from tests.e2e.answer import assert_right
from tests.fake_pinterest import RunningSite, expected_results
from tests.faults.system import System
from tests.faults.watch import Watch, replay
from tests.patient import PATIENT

HERE = Path(__file__).parent
ROOM = 4096  # of the broker's largest message, for headers
MALFORMED = {
    "empty": b"",
    "text": b"hello",
    "binary": b"\x93\xa5first\xff\x00",
    "half": b'{"version":1,"session":"',
    "list": b"[1,2,3]",
    "null": b"null",
    "types": b'{"version":1,"session":7,"item":[],"signature":null,"pin":"x","query":{},"result_limit":"many"}',
    "version": b'{"version":2,"session":"s"}',
    "deep": b"[" * 5000,
}


async def kept(bus: Bus) -> dict[str, Letter]:
    """All dead letters, by subject."""
    return {one.subject: one async for one in letters(bus)}


async def all_kept(bus: Bus, wanted: set[str]) -> dict[str, Letter]:
    """Returns when all of `wanted` are dead letters."""
    async with asyncio.timeout(60):
        while not wanted <= set(found := await kept(bus)):
            await bus.client.flush()
    return found


async def test_what_is_no_message_holds_up_nobody_and_is_kept(site: RunningSite, broker: Broker, bus: Bus) -> None:
    bodies = {**MALFORMED, "huge": b'{"version":1,"session":"' + b"x" * (bus.client.max_payload - ROOM)}
    async with System(site.origin, broker.url) as system:
        watch = Watch(system.ws_url, "clay pins:120 seed:poison latency:80")
        await watch.has(3)
        session = watch.session
        poisoned: dict[str, bytes] = {}
        for name, body in bodies.items():
            poisoned[subjects.raw(session, f"bad-{name}")] = body
            poisoned[subjects.direct(session, f"worse-{name}")] = body
            poisoned[subjects.search(secrets.token_hex(16))] = body
        for subject, body in poisoned.items():
            await bus.publish(subject, body, headers={"traceparent": "00-1", "X-Own": "kept"})
        async with asyncio.timeout(60):
            await watch.task
        assert_right(watch.videos, expected_results(watch.query))
        assert watch.search.completed is not None
        assert watch.search.completed.reason is Reason.EXHAUSTED
        found = await all_kept(bus, set(poisoned))
        assert set(found) == set(poisoned)
        for subject, body in poisoned.items():
            letter = found[subject]
            assert letter.reason, subject
            assert (letter.size, letter.body) == (len(body), body[: len(letter.body)])
            assert letter.headers == {"traceparent": "00-1", "X-Own": "kept"}
        log = SessionLog(bus)
        for name in bodies:
            for item in (f"bad-{name}", f"worse-{name}"):
                record = await log.get(session, subjects.UNAVAILABLE, item)
                assert record is not None
                assert isinstance(record.message, UnavailableRecord)
                assert record.message.reason.startswith("failed: ")
        assert "version 2 is newer than 1" in found[subjects.raw(session, "bad-version")].reason
        await watch.still()


async def raw_publish(url: str, *publications: bytes) -> None:
    """Publishes what a client library would not, by the protocol itself."""
    host, port = url.removeprefix("nats://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n' + b"".join(publications) + b"PING\r\n")
    while b"PONG" not in await reader.readline():
        pass
    writer.close()
    await writer.wait_closed()


def with_headers(subject: bytes, headers: bytes, body: bytes) -> bytes:
    head = b"NATS/1.0\r\n" + headers + b"\r\n\r\n"
    return b"HPUB %s %d %d\r\n%s%s\r\n" % (subject, len(head), len(head) + len(body), head, body)


async def test_what_looks_like_the_brokers_own_or_is_no_text_holds_up_nobody(
    site: RunningSite, broker: Broker, bus: Bus
) -> None:
    """Headers that the broker uses itself, names that the client refuses to send, subjects that are not UTF-8."""
    async with System(site.origin, broker.url) as system:
        watch = Watch(system.ws_url, "clay pins:120 seed:strange latency:80")
        await watch.has(3)
        session = watch.session.encode()
        await raw_publish(
            broker.url,
            *(
                with_headers(b"%s.%s.%s" % (stage, session, name), headers, b"hello")
                for stage in (b"media.raw", b"media.direct")
                for name, headers in (
                    (b"heartbeat", b"Status: 100"),
                    (b"gone", b"Status: 404"),
                    (b"hello", b"Status: hello"),
                    (b"name", b"bad(name: 1"),
                    (b"bytes", b"X: \xff\xfe"),
                )
            ),
            with_headers(b"$KV.results.%s.video.%s" % (session, b"e" * 32), b"Status: 100", b"{}"),
            with_headers(b"$KV.results.%s" % session, b"Status: 404", b"{}"),
            b"PUB $KV.results.a=b.request 2\r\n{}\r\n",
            b"PUB media.raw.%s.\xff\xfe 5\r\nhello\r\n" % session,
            b"PUB media.direct.\xff.\xfe 5\r\nhello\r\n",
            b"PUB search.requests.\xff 5\r\nhello\r\n",
            b"PUB quarantine.transformer.foo 5\r\nhello\r\n",
            b"PUB dead.transformer.foo 5\r\nhello\r\n",
        )
        async with asyncio.timeout(60):
            await watch.task
        assert_right(watch.videos, expected_results(watch.query))
        names = ("heartbeat", "gone", "hello", "name", "bytes")
        stages = (subjects.raw, subjects.direct)
        found = await all_kept(bus, {stage(watch.session, name) for stage in stages for name in names} | {"foo"})
        assert {"foo", f"media.raw.{watch.session}.\\xff\\xfe", "media.direct.\\xff.\\xfe"} <= set(found)
        await watch.still()
        again = Watch(system.ws_url, "clay pins:60 seed:after-strange")
        await again.exact()


async def test_a_request_that_cannot_be_read_fails_its_session_with_a_sentence(
    site: RunningSite, broker: Broker, bus: Bus
) -> None:
    session = secrets.token_hex(16)
    request = SearchRequest(session=session, query="q", result_limit=5, requested_at=0.0)
    async with System(site.origin, broker.url) as system:
        await SessionLog(bus).create(session, subjects.REQUEST, RequestRecord(request=request))
        await bus.publish(subjects.search(session), b'{"version":1,"session":"s","query":3}')
        await all_kept(bus, {subjects.search(session)})
        frames = await replay(system.ws_url, session)
    completed = frames[-1]
    assert getattr(completed, "reason", None) is Reason.FAILED
    assert "query" in (getattr(completed, "message", "") or "")


@pytest.mark.parametrize("kind", [subjects.VIDEO, subjects.REPEAT, subjects.UNAVAILABLE, subjects.CRAWLED])
async def test_a_record_that_cannot_be_read_is_replaced_by_the_one_that_belongs_there(
    site: RunningSite, broker: Broker, bus: Bus, kind: str
) -> None:
    query = f"clay pins:80 seed:record-{kind} latency:80"
    expected = expected_results(query)
    items = [item for video in expected.videos for item in video.items]
    names: dict[str, list[str | None]] = {
        subjects.VIDEO: [video.id for video in expected.videos if video.kind != "embed"],
        subjects.REPEAT: [*items],
        subjects.UNAVAILABLE: [*items],
        subjects.CRAWLED: [None],
    }
    async with System(site.origin, broker.url) as system:
        watch = Watch(system.ws_url, query)
        await watch.until(lambda: watch.search.session_id, "accepted")
        for name in names[kind]:
            try:
                await bus.publish(subjects.record(watch.session, kind, name), b"{}}", create=True)
            except AlreadyExists:
                continue
        await watch.exact()


async def test_a_lease_that_cannot_be_read_does_not_keep_a_session_open(
    site: RunningSite, broker: Broker, bus: Bus
) -> None:
    async with System(site.origin, broker.url) as system:
        watch = Watch(system.ws_url, "clay pins:80 seed:lease latency:80")
        await watch.until(lambda: watch.search.session_id, "accepted")
        await bus.publish(subjects.lease_end(watch.session), b"\xff", create=True)
        async with asyncio.timeout(60):
            await watch.task
        assert watch.search.completed is not None
        await watch.still()


async def test_an_item_too_large_to_be_sent_on_ends_as_unavailable(site: RunningSite, broker: Broker, bus: Bus) -> None:
    async with System(site.origin, broker.url) as system:
        watch = Watch(system.ws_url, "clay pins:80 seed:large latency:80")
        await watch.until(lambda: watch.search.session_id, "accepted")
        raw = RawMedia(session=watch.session, item="large-0", signature="0" * 32, pin=Pin(id="1"))
        body = encode(raw)
        captions = b'"captions":{"en":"' + b"x" * (bus.client.max_payload - len(body) - 100) + b'"}'
        body = body.replace(b'"captions":{}', captions).replace(
            b'"embed_url":null', b'"embed_url":"https://www.youtube.com/embed/a"'
        )
        await bus.publish(subjects.raw(watch.session, "large-0"), body)
        async with asyncio.timeout(60):
            await watch.task
        found = await all_kept(bus, {subjects.raw(watch.session, "large-0")})
    assert "more than the broker takes" in found[subjects.raw(watch.session, "large-0")].reason
    assert_right(watch.videos, expected_results(watch.query))


@pytest.mark.parametrize("service", ["transformer", "dedup"])
async def test_an_item_that_kills_its_handler_is_given_up_and_nothing_else_is(site: RunningSite, service: str) -> None:
    query = f"clay pins:60 seed:kills-{service}"
    expected = expected_results(query)
    killer = next(video for video in expected.videos if len(video.items) == 1 and video.kind == "mp4")
    environ = {"PYTHONPATH": f"{HERE / 'fragile'}:{HERE.parents[1]}", "FRAGILE_ITEM": killer.items[0]}
    options = LocalOptions(
        site_url=site.origin,
        media_hosts=urlsplit(site.origin).netloc,
        environ=PATIENT,
        environ_of={service: environ},
    )
    async with LocalStack(options) as stack:
        search = Client(stack.ws_url).search(query, limit=1000)
        videos = [video async for video in search]
        assert search.completed is not None
        assert search.session_id is not None
        assert {video.id for video in expected.videos if video.kind != "embed"} - {video.id for video in videos} == {
            killer.id
        }
        summary = search.completed.summary
        assert (summary.found, summary.repeats, summary.unavailable) == (expected.unique - 1, expected.repeats, 1)
        async with connect(Settings(nats_url=stack.nats_url), "test") as bus:
            stage = {"transformer": subjects.raw, "dedup": subjects.direct}[service]
            found = await all_kept(bus, {stage(search.session_id, killer.items[0])})  # the outcome comes first
            log = SessionLog(bus)
            record = await log.get(search.session_id, subjects.UNAVAILABLE, killer.items[0])
        assert list(found) == [stage(search.session_id, killer.items[0])]
        assert next(iter(found.values())).reason == "its process ended by SIGKILL"
        assert record is not None
        assert isinstance(record.message, UnavailableRecord)
        assert record.message.reason == "failed: its process ended by SIGKILL"
        assert stack.processes(service)[0].restarts == 2
        await set_up_again(stack.nats_url)


async def set_up_again(url: str) -> None:
    """The set-up job may run at any time."""
    from libs.common.streams import StreamSettings

    async with connect(Settings(nats_url=url), "streams") as bus:
        await set_up(bus, StreamSettings())
