"""Every fault of the site, for ever and once: all is found, or a reason is given, within a stated time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_pinterest.options import DATA_FAULTS, RESPONSE_FAULTS
from tests.fake_pinterest.running import RunningSite, running_site
from tests.integration.fault_matrix import Cell, Result, run_all
from tests.integration.site_faults import COMPLETE, PROMISES, Promise, as_markdown

DOC = Path(__file__).parents[2] / "docs" / "crawling.md"
SLACK = 3  # times the bound: two busy cores and several sessions side by side
SLOW = ("hang", "rate_limited_date", "rate_limited_zero", "error_in_200", "e502", "e503")  # alike, or long; by hand
FEED = [promise for promise in PROMISES if promise.fault not in SLOW]
PAGE = [promise for promise in FEED if promise.fault in ("forbidden", "e500", "no_cursor", "loop", "stubs", "nulls")]


@pytest.fixture(scope="module")
def site() -> Iterator[RunningSite]:
    with running_site() as site:
        yield site


def test_the_document_says_what_is_tested() -> None:
    rows = [line for line in DOC.read_text().splitlines() if line.startswith("| ")]
    assert [row for row in rows if row in {as_markdown(promise) for promise in PROMISES}] == [
        as_markdown(promise) for promise in PROMISES
    ]


def test_every_fault_has_its_promise() -> None:
    assert sorted(promise.fault for promise in PROMISES) == sorted(RESPONSE_FAULTS + DATA_FAULTS)


async def test_a_fault_that_lasts_ends_the_feed_as_promised(site: RunningSite) -> None:
    cells = [Cell(promise.fault, at, "always", "feed") for promise in FEED for at in ("middle", "last")]
    await _hold(site, cells, FEED)


async def test_a_fault_that_lasts_ends_the_page_as_promised(site: RunningSite) -> None:
    cells = [Cell(promise.fault, "middle", "always", "page", "pins:80") for promise in PAGE]
    await _hold(site, cells, PAGE)


async def test_a_fault_of_the_moment_costs_no_video_wherever_it_strikes(site: RunningSite) -> None:
    passing = [promise for promise in FEED if promise.once]
    cells = [Cell(promise.fault, at, "1", "feed") for promise in passing for at in ("first", "middle", "last")]
    for result in await run_all(site, cells, 180):
        if result.cell.fault == "stubs" and result.cell.at == "first":
            continue  # a feed that begins with stubs alone is left to the page
        assert result.complete and result.reason is None, str(result)


async def _hold(site: RunningSite, cells: list[Cell], promises: list[Promise]) -> None:
    by_fault = {promise.fault: promise for promise in promises}
    for result in await run_all(site, cells, 180):
        _check(result, by_fault[result.cell.fault])


def _check(result: Result, promise: Promise) -> None:
    told = promise.feed if result.cell.way == "feed" else promise.page
    assert not result.extra, str(result)
    assert result.seconds < promise.bound_s * SLACK, str(result)
    if told == COMPLETE or (result.reason is None and result.complete):  # an end may look like its fault
        assert result.complete and result.reason is None, str(result)
    else:
        assert result.reason is not None and str(result.reason) == told, str(result)
        assert result.message.endswith("."), result.message
        assert result.found, "what was found until then is given"
