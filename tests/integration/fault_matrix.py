"""Every fault of the site, once and for ever, at each place, in each way of reading: what comes of it.

`python -m tests.integration.fault_matrix [--only WORD …]` runs them all and prints a line a cell.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterable, Iterator
from itertools import product

from msgspec import Struct

from libs.common.messages import Reason
from services.crawler.browser import Browser
from tests.fake_pinterest.expected import expected_results
from tests.fake_pinterest.options import DATA_FAULTS, RESPONSE_FAULTS
from tests.fake_pinterest.running import RunningSite, running_site
from tests.integration.crawled import Crawl, Strategy, settings

AT_ONCE = {"feed": 6, "page": 3, "auto": 3}  # sessions side by side in one browser; rendering costs


class Cell(Struct, frozen=True):
    """One crawl: a fault, where it strikes, how often, and the way of reading."""

    fault: str
    at: str
    times: str
    way: Strategy
    more: str = "pins:160"

    @property
    def query(self) -> str:
        seed = f"{self.fault}-{self.at}-{self.times}-{self.way}"
        return f"glaze {self.more} seed:{seed} fault:{self.fault} at:{self.at} times:{self.times}"

    def __str__(self) -> str:
        return f"{self.fault} at:{self.at} times:{self.times} {self.way} {self.more}"


class Result(Struct, frozen=True):
    """What came of it; `complete` where every video was found and nothing else."""

    cell: Cell
    reason: Reason | None
    message: str
    found: int
    expected: int
    extra: int
    seconds: float
    ways: list[str]

    @property
    def complete(self) -> bool:
        return self.found == self.expected and not self.extra

    def __str__(self) -> str:
        told = str(self.reason) if self.reason else "exhausted"
        short = " SHORT" if self.reason is None and not self.complete else ""
        extra = f" EXTRA {self.extra}" if self.extra else ""
        ways = "+".join(self.ways)
        return f"{self.seconds:6.1f} s  {told:16} {self.found:3}/{self.expected} {ways:9} {self.cell}{short}{extra}"


async def run(browser: Browser, cell: Cell) -> Result:
    """Crawls; whatever is raised besides CrawlFailed is raised here too."""
    started = time.monotonic()
    got = await Crawl().run(browser, cell.query)
    seconds = time.monotonic() - started
    items = {item for video in expected_results(cell.query).videos for item in video.items}
    return Result(
        cell=cell,
        reason=got.failed.reason if got.failed else None,
        message=got.failed.message if got.failed else "",
        found=len(got.media.keys() & items),
        expected=len(items),
        extra=len(got.media.keys() - items),
        seconds=seconds,
        ways=sorted(got.ways),
    )


async def run_all(site: RunningSite, cells: Iterable[Cell], longest_s: float) -> list[Result]:
    """Side by side, in one browser a way; those that make the lane wait apart from the others."""
    groups: dict[tuple[str, bool], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.way, "rate_limited" in cell.fault or "error_in_200" in cell.fault), []).append(cell)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(_group(site, way, group, longest_s)) for (way, _), group in groups.items()]
    return [result for group in running for result in group.result()]


async def _group(site: RunningSite, way: str, cells: list[Cell], longest_s: float) -> list[Result]:
    async with Browser(settings(site, way, warm_contexts=0, sessions=AT_ONCE[way])) as browser:  # type: ignore[arg-type]
        free = asyncio.Semaphore(AT_ONCE[way])

        async def one(cell: Cell) -> Result:
            async with free, asyncio.timeout(longest_s):
                result = await run(browser, cell)
                print(result, flush=True)
                return result

        return list(await asyncio.gather(*(one(cell) for cell in cells)))


def every_cell() -> Iterator[Cell]:
    """All of them."""
    ways: list[Strategy] = ["feed", "page", "auto"]
    for fault, at, times, way in product(
        RESPONSE_FAULTS + DATA_FAULTS, ("first", "middle", "last"), ("1", "2", "3", "always"), ways
    ):
        yield Cell(fault, at, times, way)


def main() -> None:
    """The whole matrix, or what `--only` names."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.fault_matrix", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="words, all of which a cell's name must hold")
    arguments = parser.parse_args()
    cells = [cell for cell in every_cell() if all(word in str(cell).split() for word in arguments.only)]
    with running_site() as site:
        asyncio.run(run_all(site, cells, 300))


if __name__ == "__main__":
    main()
