"""Chromium is replaced where it is worn, and no session notices: with a real Chromium, on the stand-in site."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.crawler.browser import Browser
from services.crawler.footprint import tree_of
from services.crawler.launch import find_executable
from services.crawler.reading import read
from services.crawler.wear import LEAST_SESSIONS
from tests.fake_pinterest.running import RunningSite, running_site
from tests.integration.crawled import Crawl, assert_all_found, request, settings
from tests.wait import wait_until

NEVER: dict[str, Any] = {"browser_max_age_s": 0.0, "browser_max_sessions": 0, "browser_max_mb": 0}
LIMITS = [{"browser_max_age_s": 1.5}, {"browser_max_sessions": 4}, {"browser_max_mb": 1}]
SIDE_BY_SIDE = 3
REPLACEMENTS = 2


@pytest.fixture(scope="module")
def site() -> Iterator[RunningSite]:
    with running_site() as site:
        yield site


def runs(process: psutil.Process) -> bool:
    """Whether it still does; where nobody reaps orphans, as in a container without an init, one that is dead stays."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def drivers() -> set[int]:
    """The drivers that this process runs; each has its Chromium under it."""
    found = set()
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if "run-driver" in child.cmdline():
                found.add(child.pid)
    return found


@asynccontextmanager
async def browser_of(site: RunningSite, **limits: Any) -> AsyncIterator[Browser]:
    """A browser with no limits but these; after it no process of it is left."""
    async with Browser(settings(site, sessions=SIDE_BY_SIDE + 1, **{**NEVER, **limits})) as browser:
        yield browser
    assert not drivers()


def assert_unnoticed(got: Crawl, query: str) -> None:
    """All is found, and nothing is said of the browser."""
    assert_all_found(got, query)
    assert not [report for report in got.reports if report[1] and "browser" in report[1]]


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: next(iter(limit)))
async def test_no_session_notices_that_the_browser_is_replaced(site: RunningSite, limit: dict[str, object]) -> None:
    most_at_once = 0
    async with browser_of(site, **limit) as browser:
        [first] = drivers()
        of_first = tree_of(first)

        async def sessions(worker: int) -> None:
            nonlocal most_at_once
            number = 0
            while browser.replaced < REPLACEMENTS:
                query = f"glaze pins:120 seed:{worker}x{number}"
                assert_unnoticed(await Crawl().run(browser, query), query)
                most_at_once = max(most_at_once, len(drivers()))
                number += 1

        async with asyncio.TaskGroup() as group:
            for worker in range(SIDE_BY_SIDE):
                group.create_task(sessions(worker))
        await wait_until(lambda: not any(map(runs, of_first)), "the first browser is gone")
        assert browser.ready
        assert_unnoticed(await Crawl().run(browser, "glaze pins:60"), "glaze pins:60")
    assert most_at_once <= 2


@pytest.mark.parametrize("strategy", ["feed", "page"])
async def test_a_session_goes_on_in_the_browser_that_it_began_in(site: RunningSite, strategy: str) -> None:
    query, got = "glaze pins:240 seed:long", Crawl()
    async with browser_of(site, browser_max_sessions=2, crawl_strategy=strategy) as browser:
        [old] = drivers()
        async with aclosing(read(browser, request(query), got.report)) as pages:
            async for page in pages:
                got.media.update({media.item: media for media in page.media})
                if page.number == 1:
                    assert_unnoticed(await Crawl().run(browser, "glaze pins:20"), "glaze pins:20")
                    await wait_until(lambda: browser.replaced == 1, "another browser serves")
                    async with browser.lease() as tab:
                        assert tab.landed, "the new one is warm"
                    async with browser.lease():  # its second, so that it is worn too
                        pass
                    assert old in drivers()
        assert_unnoticed(got, query)
        await wait_until(lambda: old not in drivers(), "the old browser is closed")
        await wait_until(lambda: browser.replaced == 2, "the next one waited until then")


async def test_without_limits_it_stays(site: RunningSite) -> None:
    async with browser_of(site) as browser:
        before = drivers()
        for number in range(LEAST_SESSIONS + 1):
            query = f"glaze pins:20 seed:{number}"
            assert_unnoticed(await Crawl().run(browser, query), query)
        assert browser.replaced == 0
        assert drivers() == before


async def test_where_another_cannot_be_started_the_old_one_goes_on(site: RunningSite, tmp_path: Path) -> None:
    executable = tmp_path / "chromium"
    executable.write_text(f'#!/bin/sh\nexec "{find_executable(None, None)}" "$@"\n')
    executable.chmod(0o755)
    async with browser_of(site, browser_max_sessions=1, browser_executable=str(executable)) as browser:
        executable.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\nexit 1\n")
        assert_unnoticed(await Crawl().run(browser, "glaze pins:20"), "glaze pins:20")
        await wait_until((tmp_path / "asked").exists, "another one was tried")
        assert_unnoticed(await Crawl().run(browser, "glaze pins:60"), "glaze pins:60")
        assert browser.ready and browser.replaced == 0


async def test_a_browser_whose_driver_dies_is_started_again(site: RunningSite) -> None:
    query = "glaze pins:60"
    async with browser_of(site) as browser:
        [driver] = drivers()
        psutil.Process(driver).kill()
        await wait_until(lambda: browser.ready and driver not in drivers(), "another one runs", timeout_s=60)
        assert_all_found(await Crawl().run(browser, query), query)
