"""Clients that break the WebSocket protocol, each beside one that keeps it, whose answers go on coming."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.websockets import WebSocketState
from websockets.asyncio.client import connect

from libs.common.health import listen
from libs.common.session_log import SessionLog
from services.gateway import server
from services.gateway.app import gateway_app
from services.gateway.open_files import OWN
from services.gateway.server import client_server
from services.gateway.sessions import Begun
from services.gateway.waiting import Waiting
from tests.integration.access import GuardedGateway, guarded
from tests.integration.gateway_process import (
    MB,
    GatewayProcess,
    Peak,
    begun,
    finish,
    give,
    receive_event,
)
from tests.integration.raw_socket import BINARY, CLOSE, CONT, PING, PONG, TEXT, RawSocket, frame, handshake
from tests.wait import wait_until

IN_TIME_S = 2.0  # of a machine that others use too; a loop that is held up takes longer
TOO_FAST = 4029
INITIATE = b'{"operation": "initiate_extraction", "parameters": {"search_query": "pots"}}'
PING_OPERATION = b'{"operation": "ping", "id": "caf\xc3\xa9"}'
CODE_NOT_GOOD = b"\x03\xed"  # 1005, which is never sent

VIOLATIONS: dict[str, tuple[bytes, int]] = {
    "an unmasked text": (frame(TEXT, PING_OPERATION, masked=False), 1002),
    "a reserved bit": (frame(TEXT, PING_OPERATION, rsv=4), 1002),
    "a reserved opcode": (frame(3, b""), 1002),
    "a reserved control opcode": (frame(11, b""), 1002),
    "a text of 2**62 bytes, as it says": (frame(TEXT, b"x" * 100, claimed=2**62), 1009),
    "a text of 2**64 - 1 bytes, as it says": (frame(TEXT, b"x" * 100, claimed=2**64 - 1), 1009),
    "no UTF-8": (frame(TEXT, b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80"), 1007),
    "UTF-8 that ends in the middle": (frame(TEXT, PING_OPERATION[:-3]), 1007),
    "no UTF-8, in fragments": (frame(TEXT, b"\xce", fin=False) + frame(CONT, b"\xce"), 1007),
    "a ping in fragments": (frame(PING, b"", fin=False), 1002),
    "a ping that is too long": (frame(PING, b"x" * 126), 1002),
    "a continuation of nothing": (frame(CONT, b"x"), 1002),
    "a text in the middle of another": (frame(TEXT, b"x", fin=False) + frame(TEXT, b"x"), 1002),
    "a close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "a close with a code that is never sent": (frame(CLOSE, CODE_NOT_GOOD), 1002),
    "a close whose reason is no UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
}
PIECE = frame(CONT, b"x" * MB, fin=False)


@pytest.fixture
async def gateway(log: SessionLog) -> AsyncIterator[GuardedGateway]:
    async with guarded(log, anonymous="yes") as gateway:
        yield gateway


@pytest.fixture
async def process(nats_url: str, tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    async with GatewayProcess(nats_url, tmp_path) as gateway:
        yield gateway


@asynccontextmanager
async def bystander(url: str, log: SessionLog) -> AsyncIterator[None]:
    """One whose videos come meanwhile, each in time."""
    delays: list[float] = []
    async with connect(url) as client:
        session = await begun(client)

        async def one() -> None:
            started = time.monotonic()
            await give(log, session, len(delays))
            await receive_event(client, "video")
            delays.append(time.monotonic() - started)

        async def follow() -> None:
            while True:
                await one()
                await asyncio.sleep(0.02)

        await one()
        following = asyncio.create_task(follow())
        try:
            yield
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
    await finish(log, session, 0)
    print(f"the bystander: {len(delays)} videos, the last of them after {max(delays) * 1e3:.0f} ms")
    assert sorted(delays)[int(0.98 * len(delays)) - 1] < IN_TIME_S


@pytest.mark.parametrize("violation", VIOLATIONS)
async def test_who_breaks_the_protocol_is_closed_with_the_protocols_code(
    gateway: GuardedGateway, violation: str
) -> None:
    sent, code = VIOLATIONS[violation]
    async with connect(gateway.url) as other, RawSocket(gateway.address) as raw:
        await raw.upgrade()
        raw.writer.write(sent)
        assert await raw.end() == code
        await raw.dropped()
        await other.send(PING_OPERATION.decode())
        assert (await receive_event(other, "pong"))["id"] == "café"
    await wait_until(lambda: not gateway.endpoint.connections, "both have left")


async def test_an_operation_in_fragments_with_pings_between_them_is_carried_out(gateway: GuardedGateway) -> None:
    async with RawSocket(gateway.address) as raw:
        await raw.upgrade()
        for n, byte in enumerate(PING_OPERATION):
            raw.writer.write(frame(TEXT if n == 0 else CONT, bytes([byte]), fin=False))
            raw.writer.write(frame(PING, b"%d" % n))
        raw.writer.write(frame(CONT, b" ", fin=True))
        for n in range(len(PING_OPERATION)):
            assert await raw.receive() == (PONG, b"%d" % n)
        opcode, text = await raw.receive()
        assert opcode == TEXT
        assert json.loads(text) == {"event": "pong", "id": "café"}


async def test_a_close_is_echoed_and_a_pong_that_nobody_asked_for_is_nothing(gateway: GuardedGateway) -> None:
    async with RawSocket(gateway.address) as raw:
        await raw.upgrade()
        raw.writer.write(frame(PONG, b"unasked") + frame(BINARY, b""))
        opcode, text = await raw.receive()
        assert (opcode, json.loads(text)["code"]) == (TEXT, "invalid_request")
        raw.writer.write(frame(CLOSE, b"\x0f\xa0bye"))
        assert await raw.receive() == (CLOSE, b"\x0f\xa0bye")
        await raw.dropped()


async def test_an_idle_client_costs_nothing_of_what_it_said(gateway: GuardedGateway) -> None:
    async with AsyncExitStack() as sockets:
        idle = [await sockets.enter_async_context(RawSocket(gateway.address)) for _ in range(10)]
        for raw in idle:
            await raw.upgrade()
        tracemalloc.start()
        try:
            for raw in idle:
                raw.writer.write(frame(TEXT, PING_OPERATION + b" " * (MB - 100)))
                assert (await raw.receive()).opcode == TEXT
            assert tracemalloc.get_traced_memory()[0] < 2 * MB
        finally:
            tracemalloc.stop()


async def test_a_text_that_is_no_utf_8_is_no_error_of_the_gateways(process: GatewayProcess) -> None:
    async with RawSocket(process.address) as raw:
        await raw.upgrade()
        raw.writer.write(frame(TEXT, b"\xff"))
        assert await raw.end() == 1007
    assert '"level": "error"' not in process.said and "UnicodeDecodeError" not in process.said


async def test_long_polls_of_clients_that_have_left_count_no_longer(log: SessionLog) -> None:
    async with guarded(log, anonymous="yes", connections_per_address=3, trusted_proxies=("127.0.0.1",)) as gateway:
        async with connect(gateway.url) as client:
            session = await begun(client)
        kinds = ("application/json", "text/csv", "application/x-ndjson")
        for kind in kinds:
            lines = (
                f"GET /v1/sessions/{session}/videos?wait=60 HTTP/1.1",
                f"Host: {gateway.address}",
                "X-Forwarded-For: 198.51.100.77",
                f"Accept: {kind}",
            )
            async with AsyncExitStack() as sockets:
                for _ in range(3):
                    raw = await sockets.enter_async_context(RawSocket(gateway.address))
                    raw.writer.write("\r\n".join((*lines, "", "")).encode())
                await wait_until(lambda: session in log._followers, "they wait")
            await wait_until(lambda: session not in log._followers, "nobody waits", timeout_s=5)
            answer = await gateway.post("/v1/tickets", x_forwarded_for="198.51.100.77")
            assert answer.status_code == 201, kind


async def test_what_is_sent_before_the_handshake_is_over_harms_nobody(gateway: GuardedGateway, log: SessionLog) -> None:
    early = [
        handshake(gateway.address) + frame(TEXT, PING_OPERATION) * 3,
        handshake(gateway.address) + frame(TEXT, b"x", claimed=2**62),
        handshake(gateway.address) + b"\xff" * 1000,
        frame(TEXT, PING_OPERATION) + handshake(gateway.address),
        handshake(gateway.address) * 3,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
        b"\x00" * 100_000,
    ]
    async with bystander(gateway.url, log), AsyncExitStack() as sockets:
        for sent in early:
            raw = await sockets.enter_async_context(RawSocket(gateway.address))
            raw.writer.write(sent)
            raw.writer.write_eof()
            await raw.dropped()
    await wait_until(lambda: not gateway.endpoint.connections, "all have left")


@pytest.mark.parametrize(
    ("begun_with", "then"),
    [
        (b"", b""),
        (b"GET /ws HT", b"T"),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n", b"X-A: 1\r\n"),
        (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /heal", b"t"),
        (b"POST /v1/sessions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500\r\n\r\n{", b" "),
    ],
    ids=["nothing", "half a line", "half a head", "half a second request", "half a body"],
)
async def test_a_request_that_does_not_end_is_dropped(
    log: SessionLog, monkeypatch: pytest.MonkeyPatch, begun_with: bytes, then: bytes
) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.6)
    async with guarded(log, anonymous="yes") as gateway, AsyncExitStack() as sockets, bystander(gateway.url, log):
        slow = [await sockets.enter_async_context(RawSocket(gateway.address)) for _ in range(30)]

        async def drip(raw: RawSocket) -> None:
            while True:
                raw.writer.write(then)
                await asyncio.sleep(0.1)

        for raw in slow:
            raw.writer.write(begun_with)
        dripping = [asyncio.create_task(drip(raw)) for raw in slow if then]
        try:
            await asyncio.gather(*(raw.dropped(10) for raw in slow))
        finally:
            for one in dripping:
                one.cancel()
            await asyncio.gather(*dripping, return_exceptions=True)


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize("proxies", [(), ("127.0.0.1",)], ids=["from an address", "through a proxy"])
async def test_who_connects_and_does_not_ask_is_one_of_few(gateway: GuardedGateway, proxies: tuple[str, ...]) -> None:
    waiting = Waiting(str, 3, proxies)  # this machine's own address is one as any other
    app, sock = gateway_app(gateway.endpoint, gateway.rest, {}), listen("127.0.0.1", 0)
    address = f"127.0.0.1:{sock.getsockname()[1]}"
    async with client_server(app, sock, 5.0, waiting=waiting), AsyncExitStack() as sockets:
        slow = [await sockets.enter_async_context(RawSocket(address)) for _ in range(3)]
        for raw in slow:
            raw.writer.write(HEALTH)
            await raw.reader.readuntil(b"ok\n")
        assert waiting.count("127.0.0.1") == 0
        for raw in slow:
            raw.writer.write(HEALTH[:10])
        if not proxies:
            await wait_until(lambda: waiting.count("127.0.0.1") == 3, "the rest of each is waited for")
        async with RawSocket(address) as one_more:
            if proxies:
                one_more.writer.write(HEALTH)
                await one_more.reader.readuntil(b"ok\n")
                return
            await one_more.dropped(10)
        slow[0].writer.write(HEALTH[10:])
        await slow[0].reader.readuntil(b"ok\n")
        async with RawSocket(address) as one_more:
            one_more.writer.write(HEALTH)
            await one_more.reader.readuntil(b"ok\n")


async def test_who_leaves_while_its_search_begins_is_no_failure_of_the_gateways(
    log: SessionLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    beginning, go_on = asyncio.Event(), asyncio.Event()
    async with guarded(log, anonymous="yes") as gateway:
        begin = gateway.endpoint.sessions.begin

        async def begin_late(*arguments: Any, **named: Any) -> Begun:
            begun = await begin(*arguments, **named)
            beginning.set()
            await go_on.wait()
            return begun

        async with RawSocket(gateway.address) as raw:
            await raw.upgrade()
            raw.writer.write(frame(TEXT, INITIATE))
            session = json.loads((await raw.receive()).payload)["session_id"]
            monkeypatch.setattr(gateway.endpoint.sessions, "begin", begin_late)
            raw.writer.write(frame(TEXT, INITIATE))
            (connection,) = gateway.endpoint.connections
            await beginning.wait()
        async with asyncio.timeout(20):
            videos = itertools.count()
            while connection.websocket.application_state != WebSocketState.DISCONNECTED:  # none of them has come
                await give(log, session, next(videos))
        go_on.set()
        await wait_until(lambda: not gateway.endpoint.connections, "it has left")
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_client_that_is_gone_without_a_word_is_dropped_and_its_session_no_longer_followed(
    log: SessionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PING_EVERY_S", 0.3)
    monkeypatch.setattr(server, "PONG_WITHIN_S", 0.5)
    async with guarded(log, anonymous="yes") as gateway, bystander(gateway.url, log), RawSocket(gateway.address) as raw:
        await raw.upgrade()
        raw.writer.write(frame(TEXT, INITIATE))
        _, text = await raw.receive()
        session = json.loads(text)["session_id"]
        await wait_until(lambda: session in log._followers, "the session is followed")
        raw.reader = asyncio.StreamReader()  # from here on nothing is answered
        await wait_until(lambda: session not in log._followers, "it is followed no more")
        assert len(gateway.endpoint.connections) == 1


async def test_floods_of_small_frames_are_ended_and_cost_nobody_anything(
    process: GatewayProcess, log: SessionLog
) -> None:
    floods = {
        "pings": frame(PING, b"x" * 125) * 100_000,
        "pongs": frame(PONG) * 100_000,
        "fragments": frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * 100_000,
    }
    async with bystander(process.url, log), Peak(process) as peak:
        for flood in floods.values():
            async with RawSocket(process.address) as raw:
                await raw.upgrade()
                raw.writer.write(flood)
                assert await raw.end() in (TOO_FAST, 1006)  # a reset may overtake the close
                await raw.dropped()
    assert peak.growth < 16 * MB


async def test_a_message_that_grows_beyond_what_may_be_is_closed_with_1009_and_kept_no_longer(
    process: GatewayProcess, log: SessionLog
) -> None:
    async with bystander(process.url, log), Peak(process) as peak, AsyncExitStack() as sockets:
        for _ in range(4):
            raw = await sockets.enter_async_context(RawSocket(process.address))
            await raw.upgrade()
            raw.writer.write(frame(TEXT, b"x" * MB, fin=False) + PIECE * 5)
            assert await raw.end() in (1009, 1006)  # a reset may overtake the close
            await raw.dropped()
    assert peak.growth < 24 * MB


async def test_a_low_limit_of_open_files_is_raised_and_one_that_cannot_be_is_told_and_kept(
    nats_url: str, tmp_path: Path
) -> None:
    process = GatewayProcess(nats_url, tmp_path)
    process.command = ("prlimit", f"--nofile={OWN // 2}:{OWN + 10}", *process.command)
    async with process as gateway, AsyncExitStack() as clients:
        assert '"served": 10' in gateway.said
        for _ in range(10):
            await clients.enter_async_context(connect(gateway.url))
        refused = await clients.enter_async_context(connect(gateway.url))
        assert json.loads(await refused.recv())["code"] == "rate_limited"
        await refused.wait_closed()
        assert refused.close_code == TOO_FAST
        assert (await gateway.readiness())[0] == 200
