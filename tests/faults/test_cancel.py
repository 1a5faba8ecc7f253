"""A search cancelled at any moment: all work on it stops within a second, and nothing of it comes later."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from urllib.parse import unquote

import httpx2
import pytest

from libs.client.client import Client
from libs.client.local import LocalStack
from libs.common.bus import connect
from libs.common.messages import Reason
from libs.common.settings import Settings
from tests.fake_pinterest import RunningSite, expected_results
from tests.faults.stack import last_sequence, left, shared_stack
from tests.faults.watch import Watch

MOMENTS_S = (0.0, 0.05, 0.3, 0.6, 1.0, 1.6, 2.4)  # after `accepted`, with some chance
STOPS_WITHIN_S = 1.0
WATCHED_S = 2.5  # how long after the last cancel anything late is looked for


@pytest.fixture
async def stack(site: RunningSite) -> AsyncIterator[LocalStack]:
    """One of each service; a pace at which a search outlasts every moment."""
    async with shared_stack(site.origin, crawlers=1, transformers=1, dedups=1, environ={"SESSIONS": "8"}) as stack:
        yield stack


async def test_nothing_of_a_session_goes_on_a_second_after_it_is_cancelled(
    site: RunningSite, stack: LocalStack
) -> None:
    rng = random.Random(5)
    queries = [f"vases pins:600 size:20 seed:cancel{n} latency:120" for n in range(len(MOMENTS_S))]
    watches = [Watch(stack.ws_url, query) for query in queries]
    async with httpx2.AsyncClient(base_url=site.origin, trust_env=False) as stand_in:

        async def cancel(watch: Watch, after_s: float) -> None:
            await watch.until(lambda: watch.search.session_id, "accepted")
            await asyncio.sleep(after_s * rng.uniform(0.7, 1.3))
            assert not watch.task.done()
            await stand_in.get(f"/_stand_in/healthz?cancelled={watch.session}")
            await Client(stack.ws_url).cancel(watch.session)

        await asyncio.gather(*(cancel(*pair) for pair in zip(watches, MOMENTS_S, strict=True)))
        await asyncio.gather(*(watch.task for watch in watches))
        await asyncio.sleep(STOPS_WITHIN_S)
        async with connect(Settings(nats_url=stack.nats_url), "test") as bus:
            newest = [await last_sequence(bus, watch.session) for watch in watches]
            await asyncio.sleep(WATCHED_S)
            for watch, sequence in zip(watches, newest, strict=True):
                assert watch.search.completed is not None
                assert watch.search.completed.reason is Reason.CANCELLED
                assert await left(bus, watch.session) == set()
                assert await last_sequence(bus, watch.session) == sequence, "a record came later"
                await watch.still()
        seen = (await stand_in.get("/_stand_in/recent")).json()
    for watch in watches:
        assert late(seen, watch) == []


def late(seen: list[dict[str, object]], watch: Watch) -> list[tuple[float, str]]:
    """Requests for a session's results and media that the stand-in got over a second after the cancel."""
    signatures = {video.id for video in expected_results(watch.query).videos}
    seed = next(word for word in watch.query.split() if word.startswith("seed:"))
    found: list[tuple[float, str]] = []
    cancelled_at: float | None = None
    for request in seen:
        target, at_s = unquote(str(request["target"])), float(str(request["at_s"]))
        if target.endswith(f"cancelled={watch.session}"):
            cancelled_at = at_s
        elif cancelled_at is not None and at_s > cancelled_at + STOPS_WITHIN_S:
            words = target.replace("+", " ").replace('"', " ").replace("&", " ").split()
            signature = target.rsplit("/", 1)[-1].split(".")[0].split("_")[0]
            if seed in words or signature in signatures:
                found.append((at_s - cancelled_at, target))
    assert cancelled_at is not None
    return found
