"""Every fault of the site, for ever and once: all is found, or a reason is given, within a stated time.

All crawls go side by side, since most of their time they wait; `python -m tests.integration.fault_matrix` has the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from libs.common.messages import Reason
from tests.fake_pinterest.options import DATA_FAULTS, RESPONSE_FAULTS
from tests.fake_pinterest.running import running_site
from tests.integration.fault_matrix import PLACES, Cell, Result, run_all
from tests.integration.site_faults import COMPLETE, PROMISES, as_markdown

pytestmark = pytest.mark.timeout(900)  # the first test waits for all crawls: 150 s on a free machine

DOC = Path(__file__).parents[2] / "docs" / "crawling.md"
HANGS_S = 400
UNDISTURBED_S = {"feed": 2.0, "page": 6.0, "auto": 2.0}  # on a free machine, as many side by side as here
BY_FAULT = {promise.fault: promise for promise in PROMISES}

# What strikes each page anew needs the first page no more than once; a cursor's fault is another at the last page.
PAGE_AT_THE_LAST = (
    *("hang", "rate_limited_bare", "rate_limited", "e500", "forbidden", "login_wall", "truncated", "cut"),
    *("nulls", "stories", "renamed_field", "stubs"),
)
PAGE_IN_THE_MIDDLE = ("empty_page", "loop", "no_cursor", "changed_envelope")
PAGE_ONCE = ("e500", "loop")
HTML = {
    "login_wall": Reason.LOGIN_REQUIRED,
    "login_script": Reason.LOGIN_REQUIRED,
    "e503": Reason.UNREACHABLE,
    "blank": Reason.UPSTREAM_CHANGED,
}
LISTS = ("board", "section", "created", "related")
OF_LISTS = ("rate_limited", "e500", "cut", "login_wall", "changed_envelope")

UNDISTURBED = [Cell("cdn_slow", "first", "1", "feed", seed=str(n)) for n in range(3)] + [
    Cell("cdn_slow", "first", "1", "page", "pins:40", seed=str(n)) for n in range(2)
]
LASTING_FEED = [Cell(promise.fault, "middle", "always", "feed") for promise in PROMISES] + [
    Cell(fault, at, "always", "feed")
    for fault in ("e500", "login_wall", "no_cursor", "changed_envelope")
    for at in ("first", "last")
]
LASTING_PAGE = [Cell(fault, "last", "always", "page", "pins:40") for fault in PAGE_AT_THE_LAST] + [
    Cell(fault, "middle", "always", "page") for fault in PAGE_IN_THE_MIDDLE
]
LASTING_HTML = [Cell(fault, "page", "always", "page", "pins:40") for fault in HTML]
PASSING = [
    Cell(promise.fault, at, times, "feed")
    for promise, at in product(PROMISES, PLACES)
    for times in ("1", str(promise.borne))
    if promise.borne and promise.fault not in ("hang", "huge") and (times == "1") != (at == "middle")
] + [Cell(fault, "middle", "1", "page") for fault in PAGE_ONCE]
BY_THE_PAGE = [Cell(fault, "middle", "1", "auto", "pins:70") for fault in ("forbidden", "login_wall")]
SOURCES = [
    *(Cell(fault, "middle", "always", "feed", source=source) for fault in OF_LISTS for source in LISTS),
    *(Cell(fault, "lookup", "always", "feed", source=source) for fault in OF_LISTS[:4] for source in LISTS[:2]),
    *(Cell(fault, "pin", "always", "feed", source="pin") for fault in OF_LISTS),
    *(Cell(fault, "page", "always", "page", source="pin") for fault in OF_LISTS[1:4:2]),
    *(Cell("login_wall", "middle", "always", "page", source=source) for source in ("section", "related")),
    Cell("blank", "page", "always", "page", source="board"),
]


@pytest.fixture(scope="module")
def results() -> Iterator[dict[Cell, Result]]:
    """What came of every crawl of this file."""
    long = [cell for cell in LASTING_FEED + LASTING_PAGE + PASSING if cell.fault in ("hang", "rate_limited_bare")]
    others = [*LASTING_PAGE, *UNDISTURBED, *LASTING_HTML, *LASTING_FEED, *SOURCES, *BY_THE_PAGE, *PASSING]
    cells = list(dict.fromkeys([*long, *others]))
    with running_site() as site:
        found = asyncio.run(run_all(site, cells, HANGS_S, {"feed": 8, "page": 4, "auto": 2}))
    yield {result.cell: result for result in found}


@pytest.fixture(scope="module")
def slowness(results: dict[Cell, Result]) -> dict[str, float]:
    """How much longer than on a free machine a crawl takes here and now; the bounds are for a free one."""
    took = {way: max(results[cell].seconds for cell in UNDISTURBED if cell.way == way) for way in ("feed", "page")}
    slow = {way: max(1.0, seconds / UNDISTURBED_S[way]) for way, seconds in took.items()}
    return {**slow, "auto": slow["feed"] + slow["page"]}


def test_the_document_says_what_is_tested() -> None:
    promised = [as_markdown(promise) for promise in PROMISES]
    assert [row for row in DOC.read_text().splitlines() if row in promised] == promised


def test_every_fault_has_its_promise() -> None:
    assert sorted(BY_FAULT) == sorted(RESPONSE_FAULTS + DATA_FAULTS)


@pytest.mark.parametrize("cell", UNDISTURBED, ids=str)
def test_without_a_fault_all_is_found(results: dict[Cell, Result], cell: Cell) -> None:
    assert_complete(results[cell])


@pytest.mark.parametrize("cell", LASTING_FEED + LASTING_PAGE, ids=str)
def test_a_fault_that_lasts_ends_as_promised(
    results: dict[Cell, Result], slowness: dict[str, float], cell: Cell
) -> None:
    promise, result = BY_FAULT[cell.fault], results[cell]
    told, bound_s = (promise.feed, promise.feed_s) if cell.way == "feed" else (promise.page, promise.page_s)
    assert result.seconds < bound_s * slowness[cell.way], str(result)
    if told == COMPLETE or (cell.at == "last" and result.complete):  # what an end says may be among what is spoilt
        assert_complete(result)
    else:
        assert_ended(result, told)
        assert result.found or cell.at == "first", "what was found until then is given"


@pytest.mark.parametrize("cell", LASTING_HTML, ids=str)
def test_a_page_that_is_refused_ends_as_promised(
    results: dict[Cell, Result], slowness: dict[str, float], cell: Cell
) -> None:
    assert_ended(results[cell], HTML[cell.fault])
    assert results[cell].seconds < 60 * slowness["page"]


@pytest.mark.parametrize("cell", PASSING, ids=str)
def test_a_fault_that_passes_costs_no_video(results: dict[Cell, Result], cell: Cell) -> None:
    # A feed that begins with stubs alone is left to the page; asked again, after an answer that was late, it has all.
    if (cell.fault, cell.at, cell.way) == ("stubs", "first", "feed") and not results[cell].complete:
        assert_ended(results[cell], Reason.UPSTREAM_CHANGED)
    else:
        assert_complete(results[cell])


@pytest.mark.parametrize("cell", BY_THE_PAGE, ids=str)
def test_what_the_feed_is_refused_once_is_read_by_the_page(results: dict[Cell, Result], cell: Cell) -> None:
    assert_complete(results[cell])
    assert "page" in results[cell].ways


@pytest.mark.parametrize("cell", SOURCES, ids=str)
def test_other_sources_end_as_a_search_does(
    results: dict[Cell, Result], slowness: dict[str, float], cell: Cell
) -> None:
    result = results[cell]
    promise = BY_FAULT.get(cell.fault)
    assert result.seconds < 90 * slowness[cell.way], str(result)
    if promise is None:
        assert_ended(result, Reason.UPSTREAM_CHANGED)
    elif promise.feed == COMPLETE:
        assert_complete(result)
    else:
        assert_ended(result, promise.feed)


def assert_complete(result: Result) -> None:
    assert result.complete and result.reason is None and not result.broke, str(result)


def assert_ended(result: Result, told: str) -> None:
    assert not result.broke and not result.extra, str(result)
    assert result.reason is not None and str(result.reason) == told, str(result)
    assert result.message.endswith("."), result.message
