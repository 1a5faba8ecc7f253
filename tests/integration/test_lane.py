"""One lane of requests, shared by several connections through a real nats-server."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from libs.common import subjects
from libs.common.bus import Bus, connect
from libs.common.lane import Lane, Shared
from libs.common.messages import Reason
from libs.common.pace import OPEN_FROM_REFUSALS, OPEN_FROM_SESSIONS, Rate
from libs.common.settings import Settings
from tests.wait import wait_until

RATE = Rate(per_second=20.0, burst=2)


@pytest_asyncio.fixture
async def lanes(bus: Bus, nats_url: str) -> AsyncIterator[list[Lane]]:
    """The same lane in three processes, as far as the broker can tell."""
    site = f"https://{secrets.token_hex(8)}.example"
    async with connect(Settings(nats_url=nats_url), "b") as second, connect(Settings(nats_url=nats_url), "c") as third:
        yield [Lane(RATE, Shared(one, site)) for one in (bus, second, third)]


async def test_all_together_go_no_faster_than_one_may(lanes: list[Lane]) -> None:
    times: list[float] = []

    async def go(lane: Lane) -> None:
        for _ in range(10):
            assert await lane.turn() is None
            times.append(time.monotonic())

    await asyncio.gather(*(go(lane) for lane in lanes))
    assert len(times) == 30
    assert times[-1] - times[0] >= (30 - RATE.burst - 1) / RATE.per_second - 0.1  # 0.1: a turn is told of a bit later


async def test_a_turn_that_would_come_too_late_is_left_to_others(lanes: list[Lane]) -> None:
    slow = [Lane(Rate(per_second=1.0, burst=1), lane._store) for lane in lanes]
    assert await slow[0].turn() is None
    for lane in slow * 3:
        with pytest.raises(TimeoutError):
            await lane.turn(within_s=0.2)
    began = time.monotonic()
    assert await slow[1].turn(within_s=2.0) is None
    assert time.monotonic() - began < 1.1


async def test_what_the_site_asks_of_one_is_kept_by_all(lanes: list[Lane]) -> None:
    for lane in lanes:
        assert await lane.turn() is None
    await lanes[0].hold(30.0)
    for lane in lanes:
        held = await lane.turn()
        assert held is not None and held.reason is Reason.RATE_LIMITED
        assert 28 < held.wait_s <= 30


async def test_refusals_anywhere_open_the_circuit_everywhere_and_an_answer_closes_it(lanes: list[Lane]) -> None:
    for n in range(OPEN_FROM_REFUSALS):
        await lanes[n % 3].refused(f"session{n % OPEN_FROM_SESSIONS}", Reason.BLOCKED)
    for lane in lanes:
        held = await lane.turn()
        assert held is not None and held.reason is Reason.BLOCKED
    await lanes[1].answered()
    for lane in lanes:
        assert await lane.turn() is None


async def test_a_pace_that_cannot_be_read_is_replaced(bus: Bus) -> None:
    shared = Shared(bus, secrets.token_hex(8))
    await bus.publish(shared._subject, b"\xff\x00")
    lane = Lane(RATE, shared)
    assert await lane.turn() is None
    stored = await bus.last(subjects.PACE, shared._subject)
    assert stored is not None and stored.body.startswith(b"{")


async def test_a_first_request_goes_before_those_that_wait(bus: Bus) -> None:
    lane = Lane(Rate(per_second=10.0, burst=1), Shared(bus, secrets.token_hex(8)))
    went: list[str] = []

    async def go(name: str, *, first: bool = False) -> None:
        assert await lane.turn(first=first) is None
        went.append(name)

    tasks = [asyncio.create_task(go(f"later {n}")) for n in range(4)]
    await wait_until(lambda: went == ["later 0"], "the others wait")
    tasks += [asyncio.create_task(go(f"first {n}", first=True)) for n in range(2)]
    await asyncio.gather(*tasks)
    assert went == ["later 0", "later 1", "first 0", "first 1", "later 2", "later 3"]  # one had its turn already


async def test_a_turn_that_is_cancelled_holds_up_nobody(bus: Bus) -> None:
    lane = Lane(Rate(per_second=2.0, burst=1), Shared(bus, secrets.token_hex(8)))
    assert await lane.turn() is None
    waiting = asyncio.create_task(lane.turn())
    behind = asyncio.create_task(lane.turn())
    await asyncio.sleep(0)
    waiting.cancel()
    behind.cancel()
    await asyncio.gather(waiting, behind, return_exceptions=True)
    async with asyncio.timeout(10):
        assert await lane.turn() is None
