"""Clients that read slowly or not at all, at a gateway that is a process of its own, so that its memory can be told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from libs.client.client import Client
from libs.common.frames import Accepted, VideoFrame
from libs.common.session_log import SessionLog
from tests.integration.gateway_process import (
    IN_FLIGHT,
    MB,
    GatewayProcess,
    Peak,
    ask,
    begun,
    finish,
    give,
    give_many,
    receive,
    receive_event,
    slow_client,
    to_completed,
)
from tests.wait import wait_until

SEND_TIMEOUT_S = 4.0
CLOSED = '"client too slow"'
GROWTH = 24 * MB


def held_by_the_kernel() -> int:
    """The most bytes that the two ends of a connection here hold for a reader that does not read."""
    try:
        most = [int(Path(f"/proc/sys/net/ipv4/tcp_{side}mem").read_text().split()[2]) for side in "rw"]
    except FileNotFoundError:
        return 16 * MB
    return sum(most)


async def told_too_slow(gateway: GatewayProcess) -> None:
    await wait_until(lambda: CLOSED in gateway.said, f"it is closed, by {gateway.output}", SEND_TIMEOUT_S + 60)


@pytest.fixture
async def gateway(nats_url: str, tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    async with GatewayProcess(nats_url, tmp_path, send_timeout_s=SEND_TIMEOUT_S) as gateway:
        yield gateway


async def videos_to_the_close(client: ClientConnection) -> tuple[list[int], int]:
    """The sequences of what a client still reads, and the code that it is closed with."""
    seen: list[int] = []
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            frame = await receive(client)
            if frame["event"] == "video":
                seen.append(frame["sequence"])
    return seen, closed.value.rcvd.code if closed.value.rcvd else 1006


@pytest.mark.parametrize(("many", "padding"), [(3000, 30_000), (120, 900_000)])
async def test_a_stuck_client_costs_little_harms_nobody_is_closed_with_4008_and_resumes(
    gateway: GatewayProcess, log: SessionLog, many: int, padding: int
) -> None:
    async with AsyncExitStack() as clients, connect(gateway.url, max_size=None) as brisk:
        stuck = await clients.enter_async_context(slow_client(gateway.url))
        session, other = await begun(stuck), await begun(brisk)
        delays: list[float] = []

        async def read_at_once() -> None:
            for n in range(150):
                started = time.monotonic()
                await give(log, other, n)
                await receive_event(brisk, "video")
                delays.append(time.monotonic() - started)
                await asyncio.sleep(0.02)

        async with Peak(gateway) as peak:
            reading = asyncio.create_task(read_at_once())
            started = time.monotonic()
            sequences = await give_many(log, session, range(many), padding)
            await told_too_slow(gateway)
            closed_after = time.monotonic() - started
            await reading
        delays.sort()
        print(f"{many} of {padding} bytes: closed after {closed_after:.1f} s; others' frames {delays[75] * 1e3:.1f} ms "
              f"p50, {delays[-2] * 1e3:.0f} ms p99")  # fmt: skip
        assert peak.growth < GROWTH + IN_FLIGHT * padding  # what is written at once may be heard at once
        assert delays[-2] < 2.0
        seen, code = await videos_to_the_close(stuck)
        assert code == 4008
    await finish(log, session, many)
    async with connect(gateway.url, max_size=None) as again:
        await ask(again, "resume_extraction", session_id=session, after=seen[-1] if seen else 0)
        rest = [frame["sequence"] for frame in await to_completed(again) if frame["event"] == "video"]
    assert seen + rest == sequences
    assert gateway.resident_bytes - peak.before < GROWTH + IN_FLIGHT * padding


async def test_a_client_that_reads_slowly_gets_everything_and_costs_little(
    gateway: GatewayProcess, log: SessionLog
) -> None:
    many = 600
    async with slow_client(gateway.url) as slow, Peak(gateway) as peak:
        session = await begun(slow)
        sequences = await give_many(log, session, range(many), 30_000)
        await finish(log, session, many)
        seen: list[int] = []
        while (frame := await receive(slow))["event"] != "completed":
            if frame["event"] == "video":
                seen.append(frame["sequence"])
                await asyncio.sleep(0.01)
    assert seen == sequences
    assert peak.growth < GROWTH


async def test_a_hundred_sessions_of_one_stuck_client_cost_little(gateway: GatewayProcess, log: SessionLog) -> None:
    sessions, each = 100, 20
    async with AsyncExitStack() as clients:
        stuck = await clients.enter_async_context(slow_client(gateway.url))
        followed = [await begun(stuck) for _ in range(sessions)]
        async with Peak(gateway) as peak:
            for session in followed:
                await give_many(log, session, range(each), 30_000)
            await told_too_slow(gateway)
            _, code = await videos_to_the_close(stuck)
        assert code == 4008
        assert peak.growth < GROWTH
        again = await clients.enter_async_context(connect(gateway.url, max_size=None))
        async with Peak(gateway) as peak:
            for session in followed:
                await finish(log, session, each)
                await ask(again, "resume_extraction", session_id=session, after=0)
            seen: dict[str, int] = dict.fromkeys(followed, 0)
            ended = 0
            while ended < sessions:
                frame = await receive(again)
                seen[frame["session_id"]] += frame["event"] == "video"
                ended += frame["event"] == "completed"
        assert seen == dict.fromkeys(followed, each)
        assert peak.growth < GROWTH


async def test_many_sessions_with_the_largest_records_cost_a_stuck_client_no_more(
    gateway: GatewayProcess, log: SessionLog
) -> None:
    async with slow_client(gateway.url) as stuck:
        followed = [await begun(stuck) for _ in range(40)]
        async with Peak(gateway) as peak:
            for n in range(3):
                await asyncio.gather(*(give(log, session, n, padding=900_000) for session in followed))
            await told_too_slow(gateway)
        assert peak.growth < GROWTH + len(followed) * 900_000  # of each, the record that was just written
        assert (await videos_to_the_close(stuck))[1] == 4008


async def test_the_library_comes_through_whatever_its_caller_takes_for_a_video(
    gateway: GatewayProcess, log: SessionLog
) -> None:
    padding = 100_000
    many = held_by_the_kernel() // padding + 150
    search = Client(gateway.url).search("ceramic glaze", limit=many)
    found: list[str] = []
    async with aclosing(search.frames()) as frames:
        accepted = await anext(frames)
        assert isinstance(accepted, Accepted)
        await give_many(log, accepted.session_id, range(many), padding)
        await finish(log, accepted.session_id, many)
        await told_too_slow(gateway)
        async for frame in frames:
            if isinstance(frame, VideoFrame):
                found.append(frame.video.id)
    assert sorted(found) == [f"{n:032x}" for n in range(many)]
    assert search.reconnects >= 1
