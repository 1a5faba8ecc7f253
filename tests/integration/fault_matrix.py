"""Every fault of the site, once and for ever, at each place, in each way of reading: what comes of it.

`python -m tests.integration.fault_matrix [--only WORD …]` runs them all and prints a line a cell.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from itertools import chain, product, repeat

import httpx2
import structlog
from msgspec import Struct

from libs.common.lane import Lane
from libs.common.messages import Reason
from libs.common.pace import Rate
from services.crawler.browser import Browser
from services.crawler.pacing import BURST
from tests.fake_pinterest.catalogue import Pin
from tests.fake_pinterest.expected import expected_of
from tests.fake_pinterest.feeds import (
    board_feed,
    is_related_by_modules_alone,
    related_feed,
    search_feed,
    section_feed,
    user_feed,
)
from tests.fake_pinterest.options import DATA_FAULTS, PAGE_FAULTS, RESPONSE_FAULTS
from tests.fake_pinterest.running import RunningSite, running_site
from tests.integration.crawled import Crawl, Strategy, settings

AT_ONCE = {"feed": 8, "page": 5, "auto": 5}  # sessions side by side in one browser; rendering costs
SIZES = {"feed": "pins:260", "page": "pins:70", "auto": "pins:230"}  # a first, a middle and a last page that differ
PLACES = ("first", "middle", "last")
TIMES = ("1", "2", "3", "always")
WAYS: tuple[Strategy, ...] = ("feed", "page", "auto")


class Cell(Struct, frozen=True):
    """One crawl: a fault, where it strikes, how often, the way of reading, and the corpus."""

    fault: str
    at: str
    times: str
    way: Strategy
    more: str = ""
    seed: str = ""
    source: str = "search"

    @property
    def query(self) -> str:
        """What is searched for, or what is known of the pin that is read."""
        seed = f"{self.fault}-{self.at}-{self.times}-{self.way}{self.seed}"
        of = " of:related" if self.source == "related" and self.at in PLACES else ""
        more = self.more or SIZES[self.way]
        return f"glaze {more} seed:{seed} fault:{self.fault} at:{self.at} times:{self.times}{of}"

    @property
    def slug(self) -> str:
        """The name of a board or a user with that fault."""
        options = {"pins": self.pins, "seed": f"{self.way}{self.seed}", "fault": self.fault}
        words = [f"{key}-{value}" for key, value in {**options, "at": self.at, "times": self.times}.items()]
        return "--".join(["glazes", *words])

    @property
    def pins(self) -> str:
        return SIZES[self.way].removeprefix("pins:")

    @property
    def pin(self) -> Pin:
        """The pin that is read, or whose neighbours are."""
        shown = (pin for pin in search_feed(self.query).catalogue() if pin.videos and not pin.embed)
        return next(pin for pin in shown if not is_related_by_modules_alone(pin.id))

    @property
    def path(self) -> str | None:
        """Where it is; None for a search."""
        match self.source:
            case "board":
                return f"/mia/{self.slug}/"
            case "section":
                return f"/mia/{self.slug}/second-firing/"
            case "created" | "saved":
                return f"/{self.slug}/_{self.source}/"
            case "pin":
                return f"/pin/{self.pin.id}/"
            case "related":
                return f"/pin/{self.pin.id}/#related"
        return None

    @property
    def items(self) -> set[str]:
        """Those that a complete crawl finds."""
        match self.source:
            case "board":
                feed = board_feed("mia", self.slug)
            case "section":
                feed = section_feed("mia", self.slug, "second-firing")
            case "created" | "saved":
                feed = user_feed(self.slug, self.source)
            case "related":
                feed = related_feed(self.pin.id)
            case "pin":
                return {f"{self.pin.id}-{index}" for index in range(len(self.pin.videos))}
            case _:
                feed = search_feed(self.query)
        assert feed is not None
        return {item for video in expected_of(feed).videos for item in video.items}

    def __str__(self) -> str:
        more = self.more or SIZES[self.way]
        return f"{self.fault} at:{self.at} times:{self.times} {self.way} {more} seed:{self.seed} {self.source}"


class Result(Struct, frozen=True):
    """What came of it; `complete` where every video was found and nothing else, `broke` where no crawl may end so."""

    cell: Cell
    reason: Reason | None
    message: str
    found: int
    expected: int
    extra: int
    seconds: float
    ways: list[str]
    broke: str = ""

    @property
    def complete(self) -> bool:
        return self.found == self.expected and not self.extra

    def __str__(self) -> str:
        told = self.broke or (str(self.reason) if self.reason else "exhausted")
        short = " SHORT" if self.reason is None and not self.complete else ""
        extra = f" EXTRA {self.extra}" if self.extra else ""
        ways = "+".join(self.ways)
        cell = f"{self.cell}{short}{extra}"
        return f"{self.seconds:6.1f} s  {told:16} {self.found:3}/{self.expected} {ways:9} {cell}  {self.message}"


class Apart(Lane):
    """A lane whose sessions do not feel each other's refusals, so that each is as it would be alone."""

    async def hold(self, wait_s: float) -> None:
        """The session itself waits all the same."""

    async def refused(self, session: str, reason: Reason) -> None:
        """The circuit is another test's."""


async def run(site: RunningSite, browser: Browser, cell: Cell, longest_s: float) -> Result:
    """Crawls; after `longest_s` it is taken to hang."""
    items, path = cell.items, cell.path
    if cell.source in ("pin", "related"):
        async with httpx2.AsyncClient(timeout=60) as client:  # by its search the site learns of a pin's faults
            data = {"options": {"query": cell.query, "scope": "videos", "page_size": 1}, "context": {}}
            headers = {"X-Pinterest-PWS-Handler": "www/search/[scope].js"}
            address = f"{site.origin}/resource/BaseSearchResource/get/"
            await client.get(address, params={"data": json.dumps(data)}, headers=headers)
    started = time.monotonic()
    got, broke = Crawl(), ""
    try:
        async with asyncio.timeout(longest_s):
            await got.run(browser, "" if path else cell.query, path and site.origin + path)
    except TimeoutError:
        broke = "HANGS"
    except Exception as error:  # all of which a crawl must never raise
        traceback.print_exc()
        broke = f"RAISES {type(error).__name__}"
    seconds = time.monotonic() - started
    return Result(
        cell=cell,
        reason=got.failed.reason if got.failed else None,
        message=got.failed.message if got.failed else "",
        found=len(got.media.keys() & items),
        expected=len(items),
        extra=len(got.media.keys() - items),
        seconds=seconds,
        ways=sorted(got.ways),
        broke=broke,
    )


async def run_all(
    site: RunningSite, cells: Iterable[Cell], longest_s: float, at_once: Mapping[str, int] = AT_ONCE
) -> list[Result]:
    """Side by side, in one browser a way."""
    groups: dict[Strategy, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.way, []).append(cell)
    async with AsyncExitStack() as browsers:
        started = [await browsers.enter_async_context(_browser(site, way, at_once[way])) for way in groups]
        crawls = map(_group, repeat(site), started, groups.values(), repeat(longest_s))
        return [result for group in await asyncio.gather(*crawls) for result in group]


def _browser(site: RunningSite, way: Strategy, at_once: int) -> Browser:
    told = settings(site, way, warm_contexts=0, sessions=at_once, page_sessions=at_once, browser_max_sessions=0)
    return Browser(told, Apart(Rate(told.requests_per_second, BURST)))


async def _group(site: RunningSite, browser: Browser, cells: list[Cell], longest_s: float) -> list[Result]:
    free = asyncio.Semaphore(browser.settings.sessions)

    async def one(cell: Cell) -> Result:
        async with free:
            result = await run(site, browser, cell, longest_s)
            print(result, flush=True)
            return result

    return list(await asyncio.gather(*(one(cell) for cell in cells)))


def every_cell(seed: str = "") -> Iterator[Cell]:
    """All of them."""
    for fault, at, times, way in product(RESPONSE_FAULTS + DATA_FAULTS, PLACES, TIMES, WAYS):
        yield Cell(fault, at, times, way, seed=seed)
    for fault, times in product(RESPONSE_FAULTS + PAGE_FAULTS, TIMES):
        yield Cell(fault, "page", times, "page", seed=seed)
    for fault, times, way in product(RESPONSE_FAULTS, TIMES, WAYS[:2]):
        yield Cell(fault, "pin", times, way, "pins:60 bare:9", seed=seed)


def of_sources(seed: str = "") -> Iterator[Cell]:
    """Those of the sources beside search."""
    for fault, times, way in product(RESPONSE_FAULTS + DATA_FAULTS, TIMES, WAYS):
        for source, at in product(("board", "section", "created", "saved", "related"), PLACES):
            yield Cell(fault, at, times, way, seed=seed, source=source)
    for fault, times, way in product((*RESPONSE_FAULTS, "changed_envelope"), TIMES, WAYS):
        for source, at in (("board", "lookup"), ("section", "lookup"), ("pin", "pin")):
            yield Cell(fault, at, times, way, seed=seed, source=source)
    for fault, times, way in product(RESPONSE_FAULTS + PAGE_FAULTS, TIMES, WAYS):
        for source in ("board", "section", "created", "saved", "related", "pin"):
            yield Cell(fault, "page", times, way, seed=seed, source=source)


def main() -> None:
    """The whole matrix, or what `--only` names."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.fault_matrix", description=__doc__)
    parser.add_argument(
        "--only", nargs="*", default=[], help="words, all of which a cell's line must hold; a/b: either"
    )
    parser.add_argument("--seed", default="", help="another corpus")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    every = chain(every_cell(arguments.seed), of_sources(arguments.seed))
    cells = [cell for cell in every if all(set(word.split("/")) & set(str(cell).split()) for word in arguments.only)]
    with running_site() as site:
        asyncio.run(run_all(site, cells, 300))


if __name__ == "__main__":
    main()
