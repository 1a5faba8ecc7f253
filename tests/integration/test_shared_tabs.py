"""Many searches read the feed in few contexts of a real Chromium, and none is the worse for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial

import httpx2
import pytest

from services.crawler.browser import Browser
from services.crawler.shared_tabs import ROOMY
from services.crawler.tab import Tab
from tests.fake_pinterest.running import RunningSite, running_site
from tests.integration.crawled import Crawl, assert_all_found, settings
from tests.wait import wait_for, wait_until


@pytest.fixture(scope="module")
def site() -> Iterator[RunningSite]:
    with running_site() as site:
        yield site


async def test_many_searches_share_few_contexts_and_each_is_exact(site: RunningSite) -> None:
    queries = [f"glaze pins:110 seed:shared{n} latency:60" for n in range(24)]
    tabs: set[Tab] = set()
    async with Browser(settings(site, "feed", feed_contexts=2, warm_contexts=0)) as browser:
        crawls = [Crawl() for _ in queries]
        running = asyncio.gather(*(crawl.run(browser, query) for crawl, query in zip(crawls, queries, strict=True)))
        while not running.done():
            tabs |= browser.open_tabs
            await asyncio.wait({running}, timeout=0.05)
        await running
        await wait_until(lambda: not browser.open_tabs, "the tabs are closed after the last")
    assert 1 <= len(tabs) <= 2 + 1  # one more where a tab was closed between two sessions
    for crawl, query in zip(crawls, queries, strict=True):
        assert_all_found(crawl, query)


async def test_a_warm_context_is_left_alone_while_there_is_room_on_another(site: RunningSite) -> None:
    async with Browser(settings(site, "feed", warm_contexts=1)) as browser, AsyncExitStack() as sharing:

        def is_warm() -> bool:
            return browser._chromium is not None and browser._chromium._has_warm()

        async def share() -> Tab:
            return await sharing.enter_async_context(browser.share())

        await wait_until(is_warm, "one is warm")
        tabs = await asyncio.gather(*(share() for _ in range(3)))  # at the same moment
        await wait_until(is_warm, "another is warm")
        tabs += [await share() for _ in range(ROOMY - 3)]
        assert set(tabs) == {tabs[0]}
        assert await share() is not tabs[0]


async def test_a_cancelled_search_ends_its_request_and_leaves_the_others_alone(site: RunningSite) -> None:
    queries = [f"glaze pins:60 seed:beside{n} latency:40" for n in range(4)]
    async with Browser(settings(site, "feed", feed_contexts=1, warm_contexts=0)) as browser, browser.share():
        hanging = [
            asyncio.create_task(Crawl().run(browser, f"glaze pins:60 seed:h{n} fault:hang at:first times:always"))
            for n in range(8)  # more than the connections that Chromium opens to a host
        ]
        await wait_for(partial(_hang, site, 6), "all connections are taken")
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        async with asyncio.timeout(10):  # less than the time-out of the requests that hang
            crawls = await asyncio.gather(*(Crawl().run(browser, query) for query in queries))
    for crawl, query in zip(crawls, queries, strict=True):
        assert_all_found(crawl, query)


async def test_who_waits_for_a_page_is_told_so_and_then_that_it_goes_on(site: RunningSite) -> None:
    queries = [f"glaze pins:60 seed:turns{n} latency:40" for n in range(2)]
    async with Browser(settings(site, "page", page_sessions=1, warm_contexts=0)) as browser:
        first, second = Crawl(), Crawl()
        running = asyncio.create_task(first.run(browser, queries[0]))
        await wait_until(lambda: first.pages, "the first has the page")
        await second.run(browser, queries[1])
        await running
    for crawl, query in zip((first, second), queries, strict=True):
        assert_all_found(crawl, query)
    waiting = ("waiting", "a page of the browser", None)
    assert waiting not in first.reports
    assert second.reports[:2] == [waiting, ("crawling", None, None)]


async def test_a_renderer_that_crashes_costs_none_of_its_searches_a_video(site: RunningSite) -> None:
    queries = [f"glaze pins:220 seed:crash{n} latency:150" for n in range(6)]
    async with Browser(settings(site, "feed", feed_contexts=1, warm_contexts=0)) as browser:
        crawls = [Crawl() for _ in queries]
        running = asyncio.gather(*(crawl.run(browser, query) for crawl, query in zip(crawls, queries, strict=True)))
        await wait_until(lambda: all(crawl.pages for crawl in crawls), "each has begun")
        for tab in list(browser.open_tabs):
            session = await tab.context.new_cdp_session(tab.page)
            crash = asyncio.create_task(session.send("Page.crash"))
            await wait_until(lambda tab=tab: not tab.alive, "it crashed")  # type: ignore[misc]
            crash.cancel()
            await asyncio.gather(crash, return_exceptions=True)
        await running
    for crawl, query in zip(crawls, queries, strict=True):
        assert_all_found(crawl, query)


async def _hang(site: RunningSite, most: int) -> bool:
    """Whether so many requests hang."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        recent: list[object] = (await client.get(f"{site.origin}/_stand_in/recent")).json()
    return sum("fault%3Ahang" in str(entry) for entry in recent) >= most
