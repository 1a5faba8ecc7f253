"""1 to 200 searches that begin at the same moment, at one of each service."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence

import msgspec

from benchmarks.scaling.curve import Curve, Point, percentiles
from benchmarks.scaling.meter import Meter
from benchmarks.scaling.searching import Emitted, Searched, Searches
from benchmarks.scaling.system import System, system
from benchmarks.seeds import seed
from libs.common import subjects
from tests.fake_pinterest import running_site

CDN_MS, SITE_MS = 20, 80
LIFTED = {"REQUESTS_PER_SECOND": "100", "SITE_REQUESTS_PER_SECOND": "100"}

_turns = itertools.count(1)


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured: searches at once, how often, and videos of each."""

    at_once: tuple[int, ...] = (1, 5, 20, 50, 100, 200)
    runs: int = 5
    videos: int = 10
    at_the_pace: tuple[int, ...] = (1, 5, 20)
    corpus: str = ""


QUICK = Sizes(at_once=(1, 5), runs=1, at_the_pace=(1, 3))


async def browsed(sizes: Sizes) -> Curve:
    """A browser reads, every video is verified; the pace is lifted, so that machines are what bounds it."""
    return await _curve(
        sizes,
        "sessions",
        f"Sessions of {sizes.videos} videos each, read by one browser, at 100 requests a second",
        sizes.at_once,
        LIFTED,
    )


async def paced(sizes: Sizes) -> Curve:
    """At the pace that is the default: three requests a second to the site."""
    title = f"Sessions of {sizes.videos} videos each at the default pace, 3 requests a second"
    return await _curve(sizes, "sessions-paced", title, sizes.at_the_pace, {})


async def _curve(sizes: Sizes, name: str, title: str, at_once: Sequence[int], environ: dict[str, str]) -> Curve:
    points = []
    with running_site(cdn_latency_ms=CDN_MS) as site:
        async with system(site, crawlers=1, transformers=1, dedups=1, gateways=1, environ=environ) as stack:
            clients = [Searches(stack.ports[0])]
            await search(stack, clients, _queries(3, sizes.corpus), sizes.videos, None)  # the browser's first pages
            for count in at_once:
                point = Point(x=count, label=f"{count} session{'s' * (count > 1)}")
                for _ in range(sizes.runs):
                    await search(stack, clients, _queries(count, sizes.corpus), sizes.videos, point)
                points.append(point)
    settings = {**environ, "cdn_ms": CDN_MS, "site_ms": SITE_MS, "videos_each": sizes.videos}
    return Curve(name=name, title=title, grows="sessions", points=points, settings=settings, log=True)


def _queries(count: int, corpus: str) -> list[str]:
    turn = next(_turns)
    return [f"sessions seed:{seed(corpus, f'{turn}-{n}')} pins:60 latency:{SITE_MS}" for n in range(count)]


async def search(
    stack: System, clients: list[Searches], queries: list[str], limit: int, point: Point | None
) -> tuple[Emitted, list[Searched]]:
    """Has all queries searched at once, each gateway's clients a share of them; gives `point` what that was like."""
    emitted = Emitted()
    subscription = await stack.bus.subscribe(subjects.ALL_RAW, emitted.heard)
    await stack.bus.settled()
    meter = Meter(stack.of)
    if point is not None:
        point.begins()
    began = time.monotonic()
    shares = [queries[n :: len(clients)] for n in range(len(clients))]
    async with meter.noting():
        found = await asyncio.gather(*(one.run(some, limit) for one, some in zip(clients, shares, strict=True)))
    searches = [one for some in found for one in some]
    await subscription.unsubscribe()
    if point is not None:
        _tell(point, meter, began, emitted, searches)
    await stack.emptied(subjects.SEARCHES, subjects.DIRECT)
    return emitted, searches


def _tell(point: Point, meter: Meter, began: float, emitted: Emitted, searches: list[Searched]) -> None:
    took_s = max(one.done_at for one in searches) - began
    meter.tell(point, emitted.items, took_s)
    point.add("throughput", "items/s", emitted.items / took_s)
    p50, p99 = percentiles(emitted.latencies(searches))
    point.add("p50", "ms", p50)
    point.add("p99", "ms", p99)
    p50, p99 = percentiles([min(one.videos.values()) - one.begun_at for one in searches if one.videos])
    point.add("first video, p50", "ms", p50)
    point.add("first video, p99", "ms", p99)
    point.add("over, p50", "ms", percentiles([one.done_at - one.begun_at for one in searches])[0])
    point.saw(items=emitted.items, videos=sum(len(one.videos) for one in searches))
