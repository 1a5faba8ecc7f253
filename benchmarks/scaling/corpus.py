"""Corpora of 100 to 100,000 items: one search that reads all of it, and ten where one may not read so much.

The videos are the same again and again and remembered, so that no CDN is asked: what grows is what is kept of items.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

from benchmarks.scaling.curve import Curve, Point
from benchmarks.scaling.meter import Meter
from benchmarks.scaling.searching import Searches
from benchmarks.scaling.sessions import LIFTED, search
from benchmarks.scaling.system import system
from libs.common import subjects
from tests.fake_pinterest import running_site

LIMIT = 10_000  # the most that may be asked for
MOST_PINS = 10_000  # of one search: they hold fewer videos than that limit
SLICES = 10
CACHE = {"CACHE_SIZE": "20000"}


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How many items, and how often where there are few."""

    items: tuple[int, ...] = (100, 1_000, 10_000, 100_000)
    runs: int = 5
    sliced_from: int = 10_000  # so many are measured once, in ten parts
    corpus: str = ""


QUICK = Sizes(items=(100, 1_000), runs=1)


async def corpus(sizes: Sizes) -> Curve:
    """Of each size: items a second from search to frame, and what they cost each service."""
    points = []
    with running_site() as site:
        kinds = dict.fromkeys(("catalogues", "transformers", "dedups", "gateways"), 1)
        async with system(site, environ={**LIFTED, **CACHE}, **kinds) as stack:
            clients = [Searches(stack.ports[0])]
            for items in sizes.items:
                pins = min(items, MOST_PINS)
                queries = [f"corpus {sizes.corpus} pins:{pins}"] * (items // pins)
                if items == pins:
                    await search(stack, clients, queries, LIMIT, None)  # remembered from now on
                point = Point(x=items, label=f"{items:,} items")
                for _ in range(sizes.runs if items < sizes.sliced_from else 1):
                    emitted, _found = await search(stack, clients, queries, LIMIT, point)
                    stored = (await stack.bus.api(f"STREAM.INFO.{subjects.RESULTS}"))["state"]["bytes"]
                    point.saw(**{"mb results": stored / 2**20, "sessions": len(queries)})
                if items >= sizes.sliced_from:
                    point.runs["throughput", "items/s"] = sliced(emitted.moments)
                services = ("crawler", "transformer", "dedup", "gateway", "nats")
                Meter(stack.of).memory(point, *services)
                points.append(point)
    title = "Corpus: items of one search, and of ten at 100,000, from search to frame"
    settings = {**LIFTED, **CACHE, "limit": LIMIT, "items_of_a_search": MOST_PINS}
    return Curve(name="corpus", title=title, grows="items", points=points, settings=settings, log=True)


def sliced(moments: list[float]) -> list[float]:
    """Items a second in each tenth of them."""
    size = len(moments) // SLICES
    ends = [moments[min(n * size, len(moments) - 1)] for n in range(SLICES + 1)]
    return [size / (after - before) for before, after in pairwise(ends)]
