"""How many searches one crawler bears at once, and in how much memory.

`python -m benchmarks.bench_capacity --way feed --sessions 50` runs the whole system on this machine against the
stand-in (80 ms for each answer with data), begins all searches at once, waits until each has its first video, counts
for `--seconds` what each gets; five times. The ratios are to what is asked for: 50 videos a minute for the slowest
search, 2 GB of memory for the crawler, its driver and Chromium together; and to the first video of a search alone. The
pace is the crawler's own, REQUESTS_PER_SECOND.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import aclosing
from enum import StrEnum
from statistics import median
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
import typer

from benchmarks.results import AIM_MISSED, Cell, gathered, load, results, save, table
from benchmarks.seeds import CorpusOption, seed
from libs.client.client import Client
from libs.client.local import LocalOptions, LocalStack
from libs.common.frames import Progress, VideoFrame
from libs.common.tasks import end
from tests.fake_pinterest import running_site
from tests.soak.memory import sample

ASKED_A_MINUTE = 50  # new videos of each search
ASKED_MB = 2048
LATENCY_MS, CDN_LATENCY_MS = 80, 20
PINS = 16_000  # more than any search reads meanwhile
SAMPLE_S = 2.0
PARTS = ("crawler", "driver", "chromium")
ASKED, MEASURED, ALONE = "asked for", "all at once", "one alone"
CELLS = (
    Cell(ASKED, "slowest search", "videos a minute", "asked.videos_a_minute"),
    Cell(MEASURED, "slowest search", "videos a minute", "videos_a_minute.slowest", ASKED),
    Cell(MEASURED, "median search", "videos a minute", "videos_a_minute.median"),
    Cell(ASKED, "memory, most", "MB", "asked.memory_mb"),
    Cell(MEASURED, "memory, most", "MB", "memory_mb.most", ASKED),
    Cell(ALONE, "first video, median", "s", "first_video_alone_s"),
    Cell(MEASURED, "first video, median", "s", "first_video_s.median", ALONE),
    Cell(MEASURED, "first video, last", "s", "first_video_s.last"),
)


class Way(StrEnum):
    """How the site is read."""

    FEED = "feed"
    PAGE = "page"


class Searching:
    """One search, and when its videos came, by the monotonic clock."""

    def __init__(self, ws_url: str, number: int, corpus: str = "") -> None:
        self.begun_at = time.monotonic()
        self.videos: list[float] = []
        self.waited_for: set[str] = set()
        query = f"capacity seed:{seed(corpus, number)} pins:{PINS} latency:{LATENCY_MS}"
        self.search = Client(ws_url).search(query, limit=5000)
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with aclosing(self.search.frames()) as frames:
            async for frame in frames:
                if isinstance(frame, VideoFrame):
                    self.videos.append(time.monotonic())
                elif isinstance(frame, Progress) and frame.waiting_for:
                    self.waited_for.add(frame.waiting_for)

    def first_s(self) -> float:
        """Seconds to its first video."""
        return self.videos[0] - self.begun_at

    def a_minute(self, since: float, until: float) -> float:
        """New videos a minute between two moments."""
        return 60 * sum(since <= at < until for at in self.videos) / (until - since)


async def measure(way: Way, sessions: int, seconds: float, corpus: str) -> dict[str, Any]:
    """Runs it and returns the figures."""
    memory: list[float] = []
    with running_site(cdn_latency_ms=CDN_LATENCY_MS) as site:
        options = LocalOptions(
            site_url=site.origin,
            media_hosts=urlsplit(site.origin).netloc,
            environ={"CRAWL_STRATEGY": str(way), "DEADLINE_S": "3600"},
        )
        async with LocalStack(options) as stack:
            warm = Searching(stack.ws_url, 999_999, corpus)
            await has_first([warm])
            await end(warm.task)
            await asyncio.sleep(3)  # a context is warm again
            alone = Searching(stack.ws_url, 999_998, corpus)
            await has_first([alone])
            await end(alone.task)
            searches = [Searching(stack.ws_url, number, corpus) for number in range(sessions)]

            async def watch() -> None:
                while True:
                    found = await asyncio.to_thread(sample, stack)
                    memory.append(sum(found.get(part, 0.0) for part in PARTS))
                    await asyncio.sleep(SAMPLE_S)

            watching = asyncio.create_task(watch())
            await has_first(searches)
            since = time.monotonic()
            await asyncio.sleep(seconds)
            until = time.monotonic()
            await end(watching)
            over = [one.task for one in searches if one.task.done()]
            await end(*(one.task for one in searches))
    rates = sorted(one.a_minute(since, until) for one in searches)
    firsts = sorted(one.first_s() for one in searches)
    return {
        "asked": {"videos_a_minute": ASKED_A_MINUTE, "memory_mb": ASKED_MB},
        "first_video_alone_s": round(alone.first_s(), 3),
        "first_video_s": {"median": round(median(firsts), 2), "last": round(firsts[-1], 2)},
        "videos_a_minute": {"slowest": round(rates[0], 1), "median": round(median(rates), 1)},
        "memory_mb": {"median": round(median(memory)), "most": round(max(memory))},
        "ended_early": len(over),
        "waited_for": sorted(set().union(*(one.waited_for for one in searches))),
    }


async def has_first(searches: list[Searching], within_s: float = 180.0) -> None:
    """Returns when each of them has its first video."""
    async with asyncio.timeout(within_s):
        while not all(one.videos for one in searches):
            for one in searches:
                if one.task.done():
                    one.task.result()
            await asyncio.sleep(0.02)


def main(
    way: Annotated[Way, typer.Option(help="how the site is read")] = Way.FEED,
    sessions: Annotated[int | None, typer.Option(help="at once; default 50 by the feed, 3 by the page")] = None,
    seconds: Annotated[float, typer.Option(help="for how long videos are counted")] = 120.0,
    runs: Annotated[int, typer.Option(help="each with a system of its own")] = 5,
    quick: Annotated[bool, typer.Option(help="a first look; nothing is kept")] = False,
    corpus: CorpusOption = "",
) -> None:
    """Measure, print and keep; exit 3 where an aim is missed in the median, or a search ends early."""
    at_once = sessions or (50 if way is Way.FEED else 3)
    if quick:
        at_once, seconds, runs = min(at_once, 5), 20.0, 1
    told, loads = [], []
    for _ in range(runs):
        loads.append(load())
        told.append(asyncio.run(measure(way, at_once, seconds, corpus)))
        typer.echo(msgspec.json.encode(told[-1]).decode(), err=True)
    detail = {"way": str(way), "sessions": at_once, "seconds": seconds, "runs": told}
    command = " ".join(["python -m benchmarks.bench_capacity", *sys.argv[1:]])
    found = results(
        f"capacity-{way}", command, gathered(told, CELLS, loads), packages=["playwright", "nats-py"], detail=detail
    )
    sys.stdout.write(table(found))
    if not quick:
        save(found)
    ratios = {one.name: one.ratio for one in found.figures if one.against == ASKED}
    held = (ratios["slowest search"] or 0) >= 1 and (ratios["memory, most"] or 0) <= 1
    sys.exit(0 if held and not any(one["ended_early"] for one in told) else AIM_MISSED)


if __name__ == "__main__":
    typer.run(main)
