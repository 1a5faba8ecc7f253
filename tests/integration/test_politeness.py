"""Two crawlers, each with a Chromium of its own, ask one site: both keep its pace, its wishes and its refusals."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import msgspec
import pytest
import pytest_asyncio

from libs.common.bus import Bus, connect
from libs.common.lane import Lane, Shared
from libs.common.messages import Reason
from libs.common.pace import OPEN_FIRST_S, Rate
from libs.common.settings import Settings
from services.crawler import reading
from services.crawler.browser import Browser
from services.crawler.failure import CrawlFailed
from tests.fake_pinterest.running import RunningSite, running_site
from tests.integration.crawled import Crawl, assert_all_found, request, settings

RATE = Rate(per_second=8.0, burst=2)


@pytest.fixture(scope="module")
def site() -> Iterator[RunningSite]:
    with running_site() as site:
        yield site


@pytest_asyncio.fixture
async def pods(bus: Bus, nats_url: str, site: RunningSite) -> AsyncIterator[list[Browser]]:
    """Two crawlers' browsers on one lane."""
    lane = secrets.token_hex(8)
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(connect(Settings(nats_url=nats_url), "other"))
        yield [
            await stack.enter_async_context(
                Browser(settings(site, "feed", warm_contexts=0), Lane(RATE, Shared(connection, lane)))
            )
            for connection in (bus, other)
        ]


class Told(Crawl):
    """A crawl under a session id of its own."""

    async def run(self, browser: Browser, query: str, url: str | None = None) -> Crawl:
        wanted = msgspec.structs.replace(request(query, url), session=secrets.token_hex(16))
        try:
            async for page in reading.read(browser, wanted, self.report):
                self.pages.append(page)
                self.media.update({media.item: media for media in page.media})
        except CrawlFailed as failed:
            self.failed = failed
        return self

    def waited_for(self) -> set[str | None]:
        return {waiting_for for state, waiting_for, _ in self.reports if state == "waiting"}


async def asked(site: RunningSite) -> list[dict[str, Any]]:
    """What the site was asked for searches, with times."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        recent: list[dict[str, Any]] = (await client.get(f"{site.origin}/_stand_in/recent")).json()
    return [entry for entry in recent if "BaseSearchResource" in str(entry)]


async def test_two_crawlers_ask_no_faster_than_one_may(site: RunningSite, pods: list[Browser]) -> None:
    before = len(await asked(site))
    queries = [f"glaze pins:600 seed:pace{n}" for n in range(4)]
    crawls = await asyncio.gather(*(Told().run(pods[n % 2], query) for n, query in enumerate(queries)))
    for crawl, query in zip(crawls, queries, strict=True):
        assert_all_found(crawl, query)
    times = [entry["at_s"] for entry in (await asked(site))[before:]]
    assert len(times) >= 24
    assert times[-1] - times[0] >= (len(times) - RATE.burst - 1) / RATE.per_second - 0.5


async def test_what_the_site_asks_one_crawler_to_wait_the_other_waits_too(
    site: RunningSite, pods: list[Browser]
) -> None:
    query = "glaze pins:200 seed:after fault:rate_limited at:first times:1"
    beside = "glaze pins:200 seed:beside"
    before = len(await asked(site))
    limited, other = Told(), Told()
    await asyncio.gather(limited.run(pods[0], query), other.run(pods[1], beside))
    assert_all_found(limited, query)
    assert_all_found(other, beside)
    assert "rate_limited" in limited.waited_for()
    entries = (await asked(site))[before:]
    refused_at = next(entry["at_s"] for entry in entries if entry["status"] == 429)
    soon = [entry["at_s"] - refused_at for entry in entries if refused_at + 0.15 < entry["at_s"] < refused_at + 1.0]
    assert not soon, "what was under way by then may come within 0.15 s"


async def test_refusals_open_a_circuit_that_one_probe_closes(site: RunningSite, pods: list[Browser]) -> None:
    hopeless = [f"glaze pins:60 seed:no{n} fault:forbidden at:first times:always" for n in range(6)]
    crawls = [Told() for _ in hopeless]
    await asyncio.gather(*(crawl.run(pods[n % 2], hopeless[n]) for n, crawl in enumerate(crawls)))
    assert {crawl.failed and crawl.failed.reason for crawl in crawls} == {Reason.BLOCKED}
    before = len(await asked(site))
    queries = [f"glaze pins:60 seed:yes{n}" for n in range(6)]
    clean = [Told() for _ in queries]
    await asyncio.gather(*(crawl.run(pods[n % 2], queries[n]) for n, crawl in enumerate(clean)))
    for crawl, query in zip(clean, queries, strict=True):
        assert_all_found(crawl, query)
        assert crawl.waited_for() == {"blocked"}
        waits = [until for state, _, until in crawl.reports if state == "waiting"]
        assert all(waits), "until when is told"
    first, second, *_ = [entry["at_s"] for entry in (await asked(site))[before:]]
    refused_last = (await asked(site))[before - 1]["at_s"]
    assert first - refused_last >= OPEN_FIRST_S - 0.5
    assert second > first
