"""Faults of processes: the broker killed, a crawler that stands still, a service told to stop; one stack for all."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial

import httpx2
import pytest
import pytest_asyncio

from libs.client.local import LocalStack, ServiceProcess
from libs.common import subjects
from libs.common.bus import Bus, connect
from libs.common.settings import Settings
from tests.fake_pinterest import RunningSite
from tests.faults.stack import ACK_WAIT_S, DRAIN_S, leases, left, shared_stack
from tests.faults.watch import Watch
from tests.patient import PATIENT_S
from tests.wait import wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXIT_S = 20.0
ENDING_S = 8.0  # beyond the drain: the browser's end, the interpreter's, on a busy machine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(site: RunningSite) -> AsyncIterator[LocalStack]:
    """The whole system, restarted where it dies."""
    async with shared_stack(site.origin) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="module")
async def broker_bus(stack: LocalStack) -> AsyncIterator[Bus]:
    """A connection of the test's own, all services being ready."""
    await stack.ready()
    async with connect(Settings(nats_url=stack.nats_url), "test") as bus:
        yield bus


async def test_a_broker_killed_in_mid_search_and_started_from_its_store_costs_nothing(
    stack: LocalStack, broker_bus: Bus
) -> None:
    watches = [Watch(stack.ws_url, f"pots pins:120 size:15 seed:broker{n} latency:300") for n in range(2)]
    assert stack.broker is not None
    for videos in (5, 25):
        await watches[0].has(videos)
        stack.broker.kill()
        await wait_for(lambda: asyncio.sleep(0, broker_bus.connected), "the broker is there again")
    await asyncio.gather(*(watch.exact() for watch in watches))


@pytest.mark.parametrize("wakes", ["in mid-search", "after the end"])
async def test_a_crawler_that_stood_still_adds_nothing_when_it_wakes(
    stack: LocalStack, broker_bus: Bus, wakes: str
) -> None:
    latency = 700 if wakes == "in mid-search" else 300
    watches = [Watch(stack.ws_url, f"jugs pins:100 size:10 seed:stall{n}{latency} latency:{latency}") for n in range(3)]
    await asyncio.gather(*(watch.has(3) for watch in watches))
    stalled = stack.processes("crawler")[0]
    os.kill(stalled.pid, signal.SIGSTOP)
    try:
        await wait_for(partial(taken_over, broker_bus, watches), "another took over", timeout_s=ACK_WAIT_S * 4)
        if wakes == "after the end":
            await asyncio.gather(*(watch.exact() for watch in watches))
    finally:
        os.kill(stalled.pid, signal.SIGCONT)
    await asyncio.gather(*(watch.exact() for watch in watches))
    await stack.ready()
    for watch in watches:
        await wait_for(partial(answered, broker_bus, watch.session), "no request of it is left")
        await watch.still()


@pytest.mark.parametrize("service", ["crawler", "transformer", "dedup", "gateway"])
async def test_a_service_told_to_stop_in_mid_search_hands_its_work_to_another_at_once(
    stack: LocalStack, broker_bus: Bus, service: str
) -> None:
    watches = [Watch(stack.ws_url, f"cups pins:100 size:10 seed:stop-{service}{n} latency:400") for n in range(4)]
    await asyncio.gather(*(watch.has(3) for watch in watches))
    replica = stack.processes(service)[0]
    process = replica.process
    assert process is not None
    asked = asyncio.Event()
    red = asyncio.create_task(unready_before_its_end(replica, asked))
    await asked.wait()
    told = time.monotonic()
    process.terminate()
    async with asyncio.timeout(EXIT_S):
        code = await process.wait()
    took_s = time.monotonic() - told
    assert code == 0, replica.last_words()
    assert took_s < DRAIN_S + ENDING_S, f"{service} took {took_s:.1f} s to stop"
    assert await red or took_s < DRAIN_S, "ready to its end, though it drained"
    if service == "crawler" and "handing back" in replica.log.read_text():  # long before it would be missed
        await wait_for(partial(taken_over, broker_bus, watches), "another took over", timeout_s=ACK_WAIT_S / 2)
    await stack.ready()
    await asyncio.gather(*(watch.exact() for watch in watches))


async def taken_over(bus: Bus, watches: list[Watch]) -> bool:
    """Whether a second attempt has been made at one of the sessions."""
    return any([await leases(bus, watch.session) > 1 for watch in watches])


async def answered(bus: Bus, session: str) -> bool:
    return subjects.search(session) not in await left(bus, session)


async def unready_before_its_end(service: ServiceProcess, asked: asyncio.Event) -> bool:
    """Whether /readyz says 503 before it is not answered any more; `asked` is set when it has said 200."""
    with suppress(httpx2.NetworkError, httpx2.RemoteProtocolError):
        async with httpx2.AsyncClient(trust_env=False, timeout=PATIENT_S) as client:
            while True:
                status = (await client.get(service.ready_url)).status_code
                if status == 503:
                    return True
                asked.set()
    return False
