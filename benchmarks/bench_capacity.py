"""How many searches one crawler bears at once, and in how much memory.

`python -m benchmarks.bench_capacity --way feed --sessions 50` runs the whole system on this machine against the
stand-in (80 ms for each answer with data), begins all searches at once, waits until each has its first video, counts
for `--seconds` what each gets. The figures are ratios: videos a minute of the slowest search over the 50 that are asked
for, memory of the crawler, its driver and Chromium together over 2 GB. The pace is the crawler's own,
REQUESTS_PER_SECOND.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import time
from contextlib import aclosing
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from benchmarks.results import AIM_MISSED, RESULTS
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
        "way": str(way),
        "sessions": sessions,
        "seconds": seconds,
        "first_video_alone_s": round(alone.first_s(), 3),
        "first_video_s": {"median": round(median(firsts), 2), "last": round(firsts[-1], 2)},
        "videos_a_minute": {"slowest": round(rates[0], 1), "median": round(median(rates), 1)},
        "slowest_over_asked": round(rates[0] / ASKED_A_MINUTE, 2),
        "memory_mb": {"median": round(median(memory)), "most": round(max(memory))},
        "memory_over_asked": round(max(memory) / ASKED_MB, 2),
        "ended_early": len(over),
        "waited_for": sorted(set().union(*(one.waited_for for one in searches))),
        "machine": {"processors": len(os.sched_getaffinity(0)), "python": platform.python_version()},
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
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
    seconds: Annotated[float, typer.Option(help="for how long videos are counted")] = 60.0,
    out: Annotated[Path, typer.Option(help="folder of results")] = RESULTS,
    corpus: CorpusOption = "",
) -> None:
    """Measure, print and keep; exit 3 where an aim is missed."""
    figures = asyncio.run(measure(way, sessions or (50 if way is Way.FEED else 3), seconds, corpus))
    text = json.dumps(figures, indent=2)
    sys.stdout.write(text + "\n")
    out.mkdir(parents=True, exist_ok=True)
    (out / f"capacity_{way}.json").write_text(text + "\n")
    held = figures["slowest_over_asked"] >= 1 and figures["memory_over_asked"] <= 1 and not figures["ended_early"]
    sys.exit(0 if held else AIM_MISSED)


if __name__ == "__main__":
    typer.run(main)
