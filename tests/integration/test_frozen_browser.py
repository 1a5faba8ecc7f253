"""A browser that stands still without ending: it is noticed in time, replaced once, and then given up."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, aclosing, suppress

import psutil
import pytest

from libs.common.messages import Reason
from services.crawler.browser import Browser
from services.crawler.reading import read
from tests.fake_pinterest.running import RunningSite, running_site
from tests.integration.crawled import Crawl, Strategy, assert_all_found, request, settings

SURVIVED_S = 120  # 20 s for the request without an answer, 20 s for the question whether it has any, other starts
GIVEN_UP_S = 150  # that twice


@pytest.fixture(scope="module")
def site() -> Iterator[RunningSite]:
    with running_site() as site:
        yield site


@pytest.fixture(autouse=True)
def no_browser_is_left() -> Iterator[None]:
    yield
    children = psutil.Process().children(recursive=True)
    assert not [child for child in children if "chrom" in child.name() and child.status() != psutil.STATUS_ZOMBIE]


def freeze(browser: Browser, what: Callable[[psutil.Process], bool]) -> None:
    """Stops the processes of the Chromium that serves now."""
    assert browser._chromium is not None and browser._chromium._process is not None
    driver = browser._chromium._process
    for process in (driver, *driver.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            if what(process):
                process.send_signal(signal.SIGSTOP)


def of_chromium(process: psutil.Process) -> bool:
    return "chrom" in process.name()


def driver(process: psutil.Process) -> bool:
    return "node" in process.name()


async def survives(site: RunningSite, strategy: Strategy, what: Callable[[psutil.Process], bool]) -> None:
    """A crawl, one of whose processes is stopped after its first page, finds all by another browser."""
    query = f"glaze pins:220 seed:frozen-{strategy}"
    started, got, frozen = time.monotonic(), Crawl(), False
    async with Browser(settings(site, strategy, warm_contexts=0)) as browser:
        async with aclosing(read(browser, request(query), got.report)) as pages:
            async for page in pages:
                got.media.update({media.item: media for media in page.media})
                if not frozen:
                    frozen = True
                    freeze(browser, what)
        assert time.monotonic() - started < SURVIVED_S
    assert_all_found(got, query)
    assert [told for told in got.reports if told[1] and "started again" in told[1]]


async def ends_as_failed(site: RunningSite) -> None:
    """A crawl, each of whose browsers is stopped as it starts, is given up."""
    started = time.monotonic()
    async with Browser(settings(site, "feed", warm_contexts=0)) as browser:
        freeze(browser, of_chromium)
        crawling = asyncio.create_task(Crawl().run(browser, "glaze pins:60 seed:never"))
        first = browser._chromium
        while not crawling.done():
            await asyncio.wait({crawling}, timeout=0.05)
            if browser._chromium is not first:
                first = browser._chromium
                freeze(browser, of_chromium)
        got = crawling.result()
    assert got.failed is not None and got.failed.reason is Reason.BROWSER_FAILED
    assert time.monotonic() - started < GIVEN_UP_S


async def test_a_browser_that_stands_still_is_replaced_once_and_one_that_never_serves_given_up(
    site: RunningSite,
) -> None:
    """Side by side, since they wait for most of the time."""
    async with asyncio.TaskGroup() as crawls:
        crawls.create_task(survives(site, "feed", of_chromium))
        crawls.create_task(survives(site, "page", of_chromium))
        crawls.create_task(survives(site, "feed", driver))
        crawls.create_task(ends_as_failed(site))


async def test_browsers_that_start_at_once_have_each_their_own_driver(site: RunningSite) -> None:
    async with AsyncExitStack() as running:
        starts = [running.enter_async_context(Browser(settings(site, "feed", warm_contexts=0))) for _ in range(3)]
        found = [browser._chromium._process for browser in await asyncio.gather(*starts) if browser._chromium]
        assert None not in found and len(set(found)) == 3
