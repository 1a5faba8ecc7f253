"""One, two and four replicas of each stage: how fast its queue is emptied, and how long a message takes at leisure.

Each stage runs alone, between a queue that was filled before and one that nobody reads, so that what is measured is the
stage and the broker; then all of them together, as often as each other, from search to frame.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from benchmarks.bare_clients import steady, surge
from benchmarks.bench_verification import requests_seen
from benchmarks.feeder import Feeder, Written
from benchmarks.scaling.curve import Curve, Point, percentiles
from benchmarks.scaling.inputs import SEARCH_LIMIT, direct_media, known_media, raw_media, record_requests, searches
from benchmarks.scaling.meter import Meter
from benchmarks.scaling.searching import Searches
from benchmarks.scaling.sessions import search
from benchmarks.scaling.stage import Given, Queue, last_token
from benchmarks.scaling.system import System, system
from benchmarks.worker import Worker
from libs.common import subjects
from libs.common.messages import CancelRecord
from libs.common.session_log import SessionLog
from tests.fake_pinterest import running_site

REPLICAS = (1, 2, 4)
PACE = {"REQUESTS_PER_SECOND": "100", "SITE_REQUESTS_PER_SECOND": "100"}  # the default, 3, would be all that one sees
CDN_MS, SLOW_CDN_MS, SITE_MS = 20, 80, 80
RATE = ("throughput", "items/s")
P50, P99 = ("p50", "ms"), ("p99", "ms")

_turns = itertools.count(1)


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    replicas: tuple[int, ...] = REPLICAS
    runs: int = 5
    verified: int = 500  # distinct videos of a surge at the CDN
    direct: int = 5_000
    searches: int = 20
    browsed: int = 10
    frames: int = 6_000
    seconds: float = 3.0  # at leisure
    whole: int = 24  # searches of 100 videos
    corpus: str = ""


QUICK = Sizes(
    replicas=(1, 2), runs=1, verified=80, direct=1_000, searches=6, browsed=4, frames=1_000, seconds=1.0, whole=4
)


class _Item(msgspec.Struct):
    item: str


_item = msgspec.json.Decoder(_Item)


def outcome(subject: str, body: bytes) -> tuple[str, str] | None:
    """The item whose outcome a public record is."""
    _, session, kind, *_ = subject.split(".")
    if kind not in (subjects.VIDEO, subjects.REPEAT, subjects.UNAVAILABLE):
        return None
    return session, _item.decode(body).item


def first_of_search(subject: str, _body: bytes) -> tuple[str, str]:
    """All that a search emits is known by its session."""
    return subject.split(".")[2], "first"


CRAWLER = Queue(subjects.SEARCHES, subjects.CRAWLER, subjects.ALL_RAW, last_token)
TRANSFORMER = Queue(subjects.RAW, subjects.TRANSFORMER, subjects.ALL_DIRECT, last_token)
DEDUP = Queue(subjects.DIRECT, subjects.DEDUP, subjects.PUBLIC_RESULTS, outcome)


async def transformer(sizes: Sizes, cdn_ms: int, name: str, *, known: bool = False) -> Curve:
    """Items that nobody has asked the CDN about; or, `known`, items whose videos every transformer remembers."""
    points, per_s = [], 200.0 if known else 30.0
    media = known_media if known else raw_media
    with running_site(cdn_latency_ms=cdn_ms) as site:
        for replicas in sizes.replicas:
            point = _point(replicas)
            async with system(site, transformers=replicas, environ=PACE) as stack:
                for _ in range(6 if known and replicas > 1 else known):  # until they know them
                    given = await media(site.origin, next(_turns), sizes.verified, sizes.corpus)
                    await _surge(_point(0), stack, TRANSFORMER, given, len(given))
                    await stack.purge(subjects.RAW, subjects.DIRECT)
                for _ in range(sizes.runs):
                    given = await media(site.origin, next(_turns), sizes.verified, sizes.corpus)
                    await requests_seen(site)
                    await _surge(point, stack, TRANSFORMER, given, len(given))
                    point.saw(requests=sum((await requests_seen(site)).values()) / len(given))
                    await stack.purge(subjects.RAW, subjects.DIRECT)
                distinct = min(sizes.verified, int(per_s * sizes.seconds * 0.8))
                for _ in range(sizes.runs):
                    given = await media(site.origin, next(_turns), distinct, sizes.corpus)
                    await _paced(point, stack, TRANSFORMER, given[: int(per_s * sizes.seconds)], per_s)
            points.append(point)
    what = "their videos are remembered" if known else f"the CDN answers after {cdn_ms} ms"
    settings = {**PACE, "cdn_ms": cdn_ms, "paced_per_s": per_s}
    return Curve(
        name=name, title=f"Transformer: items resolved, {what}", grows="replicas", points=points, settings=settings
    )


async def dedup(sizes: Sizes, per_s: float = 300.0) -> Curve:
    """Resolved items, three of ten repeats."""
    points = []
    with running_site() as site:
        for replicas in sizes.replicas:
            point = _point(replicas)
            async with system(site, dedups=replicas) as stack:
                log = SessionLog(stack.bus)
                for _ in range(sizes.runs):
                    requests, given = direct_media(next(_turns), sizes.direct)
                    await record_requests(log, requests)
                    await _surge(point, stack, DEDUP, given, len(given))
                    await stack.emptied(subjects.DIRECT)
                for _ in range(sizes.runs):
                    requests, given = direct_media(next(_turns), int(per_s * sizes.seconds))
                    await record_requests(log, requests)
                    await _paced(point, stack, DEDUP, given, per_s)
            points.append(point)
    title = "Dedup: items given their outcome"
    return Curve(name="dedup", title=title, grows="replicas", points=points, settings={"paced_per_s": per_s})


async def crawler(sizes: Sizes, *, browser: bool) -> Curve:
    """Searches of 100 items each; a browser reads the site, or the stand-in's catalogue is read without one."""
    points = []
    words, count = (f"latency:{SITE_MS}", sizes.browsed) if browser else ("", sizes.searches)
    per_s = 1.0 if browser else 4.0
    with running_site() as site:
        for replicas in sizes.replicas:
            point = _point(replicas)
            kind = {"crawlers" if browser else "catalogues": replicas}
            async with system(site, environ=PACE, **kind) as stack:
                log = SessionLog(stack.bus)
                for n in range(sizes.runs + browser):  # a browser's first pages are not as its later ones
                    requests, given = searches(next(_turns), count, words, sizes.corpus)
                    await record_requests(log, requests)
                    into = point if n >= browser else _point(replicas)
                    await _surge(into, stack, CRAWLER, given, count * SEARCH_LIMIT)
                    await _cancelled(stack, log, given)
                first = CRAWLER._replace(key=first_of_search)
                for _ in range(sizes.runs):
                    requests, given = searches(next(_turns), max(2, int(per_s * sizes.seconds)), words, sizes.corpus)
                    await record_requests(log, requests)
                    await _paced(point, stack, first, given, per_s)
                    await _cancelled(stack, log, given)
            points.append(point)
    what = f"a browser reads a site that answers after {SITE_MS} ms" if browser else "without a browser"
    return Curve(
        name="crawler-browser" if browser else "crawler",
        title=f"Crawler: items emitted, {what}",
        grows="replicas",
        points=points,
        settings={**PACE, "searches": count, "items_each": SEARCH_LIMIT, "paced_searches_per_s": per_s},
    )


async def gateway(sizes: Sizes) -> Curve:
    """Records of 200 sessions to frames; every gateway hears all records and sends those of its own clients."""
    points = []
    sessions = 200 if sizes.frames > 1_000 else 20
    with running_site() as site:
        for replicas in sizes.replicas:
            point = _point(replicas)
            async with system(site, gateways=replicas) as stack, AsyncExitStack() as workers:
                clients = [workers.enter_context(Worker(Searches, port, n << 16)) for n, port in enumerate(stack.ports)]
                feeder = workers.enter_context(Worker(Feeder, stack.stack.nats_url))
                each = sessions // replicas
                per_client = [await one.call("open_searches", each) for one in clients]
                all_sessions = [session for some in per_client for session in some]
                load = [worker.pid for worker in (*clients, feeder)]
                meter = Meter(stack.of, load)
                for _ in range(sizes.runs):
                    point.begins()
                    meter.start()
                    plan = surge(len(all_sessions), sizes.frames // len(all_sessions))
                    written, arrived = await _fed(feeder, clients, all_sessions, plan)
                    took_s = max(arrived.values()) - min(one.sent for one in written)
                    meter.tell(point, len(written), took_s)
                    point.add("throughput", "frames/s", len(written) / took_s)
                for _ in range(sizes.runs):
                    plan = steady(len(all_sessions), 60.0, sizes.seconds)
                    written, arrived = await _fed(feeder, clients, all_sessions, plan)
                    _late(point, [arrived[one.id] - one.sent for one in written])
                meter.memory(point, "gateway")
            points.append(point)
    title = "Gateway: records sent as frames to 200 sessions"
    return Curve(name="gateway", title=title, grows="replicas", points=points, settings={"sessions": sessions})


async def whole(sizes: Sizes) -> Curve:
    """All four stages as often as each other, from search to frame; the same videos, so that no CDN is asked."""
    points = []
    queries = [f"whole {sizes.corpus} pins:{SEARCH_LIMIT * 3}"] * sizes.whole  # each transformer knows them soon
    with running_site() as site:
        for replicas in sizes.replicas:
            point = _point(replicas)
            kinds = dict.fromkeys(("catalogues", "transformers", "dedups", "gateways"), replicas)
            async with system(site, environ=PACE, **kinds) as stack:
                clients = [Searches(port, n << 16) for n, port in enumerate(stack.ports)]
                for _ in range(2):
                    await search(stack, clients, queries, SEARCH_LIMIT, None)
                for _ in range(sizes.runs):
                    await search(stack, clients, queries, SEARCH_LIMIT, point)
            points.append(point)
    title = "All stages together, from search to frame"
    return Curve(name="whole", title=title, grows="replicas", points=points, settings={**PACE, "searches": sizes.whole})


async def _fed(
    feeder: Worker, clients: list[Worker], sessions: list[str], plan: list[tuple[float, int]]
) -> tuple[list[Written], dict[str, float]]:
    """Has videos written by `plan`; when each came to a client."""
    written = [Written(*one) for one in await feeder.call("feed", sessions, plan)]
    ids = [one.id for one in written]
    arrived: dict[str, float] = {}
    for part in await asyncio.gather(*(one.call("arrived_of", ids) for one in clients)):
        arrived |= part
    if len(arrived) != len(written):
        raise RuntimeError(f"{len(written) - len(arrived)} of {len(written)} frames did not come")
    return written, arrived


async def _surge(point: Point, stack: System, queue: Queue, given: list[Given], out: int) -> None:
    point.begins()
    meter = Meter(stack.of)
    took_s = await queue.surge(stack.bus, given, out, meter.start)
    meter.tell(point, out, took_s)
    point.add(*RATE, out / took_s)


async def _paced(point: Point, stack: System, queue: Queue, given: list[Given], per_s: float) -> None:
    _late(point, await queue.paced(stack.bus, given, per_s))


async def _cancelled(stack: System, log: SessionLog, given: list[Given]) -> None:
    """Ends the searches; returns when no crawler has any in hand."""
    for one in given:
        await log.put(one.key[0], subjects.CANCEL, CancelRecord(requested_at=time.time()))
    await stack.emptied(subjects.SEARCHES)
    await stack.purge(subjects.RAW)


def _late(point: Point, seconds: list[float]) -> None:
    p50, p99 = percentiles(seconds)
    point.add(*P50, p50)
    point.add(*P99, p99)


def _point(replicas: int) -> Point:
    return Point(x=replicas, label=f"{replicas} replica{'s' * (replicas > 1)}")


CURVES: dict[str, Callable[[Sizes], Coroutine[Any, Any, Curve]]] = {
    "transformer": lambda sizes: transformer(sizes, CDN_MS, "transformer"),
    "transformer-slow-cdn": lambda sizes: transformer(sizes, SLOW_CDN_MS, "transformer-slow-cdn"),
    "transformer-known": lambda sizes: transformer(sizes, CDN_MS, "transformer-known", known=True),
    "dedup": dedup,
    "crawler": lambda sizes: crawler(sizes, browser=False),
    "crawler-browser": lambda sizes: crawler(sizes, browser=True),
    "gateway": gateway,
    "whole": whole,
}
