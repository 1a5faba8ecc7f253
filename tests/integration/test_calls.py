"""What a video costs in Python, counted by calls, which are the same on a fast machine and on a slow one.

All services run in this process, with a real broker; the crawler's browser alone is not here. Each video was resolved
in an earlier search, so that no CDN is asked. Instructions of the processor would be the better measure; virtual
machines often have no counter for them, and a simulator of one (valgrind) takes a minute to start a service.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import tomllib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from libs.client.broker import Broker, free_port
from libs.client.client import Client
from libs.common.bus import Bus, connect
from libs.common.messages import SearchRequest
from libs.common.settings import Settings, from_environment
from libs.common.streams import StreamSettings, set_up
from libs.common.tasks import end
from services.crawler.__main__ import work
from services.crawler.page_read import PageRead
from services.crawler.settings import CrawlerSettings
from services.dedup.__main__ import serve as dedup
from services.dedup.settings import DedupSettings
from services.gateway.__main__ import serve as gateway
from services.gateway.settings import GatewaySettings
from services.transformer.__main__ import serve as transformer
from services.transformer.settings import TransformerSettings
from tests.emitted import distinct_media
from tests.fake_pinterest import running_site
from tests.patient import PATIENT
from tests.tidied import tidied
from tests.wait import wait_for

ROOT = Path(__file__).parents[2]
VIDEOS, PAGE = 60, 20
OTHERS = ("httpx2", "httpcore2", "h11", "anyio", "uvicorn", "starlette")  # they work by the clock, too


class Bound(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most calls a video in a part of the code, and what was counted."""

    most: float
    measured: float
    why: str
    second: float = 0.0  # calls besides, by the clock


BOUNDS = msgspec.convert(tomllib.loads(Path(__file__).with_name("calls.toml").read_text()), dict[str, Bound])


def part_of(file: str) -> str | None:
    """`services/dedup`, `libs/common`, or a library's name; None for the tests' own and for Python's."""
    if (at := file.rfind("site-packages/")) >= 0:
        return file[at:].split("/")[1].removesuffix(".py")
    if file.startswith(str(ROOT)):
        parts = Path(file).relative_to(ROOT).parts
        return None if parts[0] == "tests" or parts[:2] == ("libs", "client") else "/".join(parts[:2])
    return None


@contextmanager
def counted_calls() -> Iterator[Counter[str]]:
    """By file: each call of a Python function, each time that a coroutine goes on, and each call of C from there."""
    found: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _argument: Any) -> None:
        if event in ("call", "c_call"):
            found[frame.f_code.co_filename] += 1

    sys.setprofile(count)
    try:
        yield found
    finally:
        sys.setprofile(None)


async def pages(request: SearchRequest, report: object, site: str) -> AsyncGenerator[PageRead, None]:
    """What a crawl would have read."""
    media = distinct_media("calls", VIDEOS, site)
    for number, start in enumerate(range(0, VIDEOS, PAGE), 1):
        page = [
            msgspec.structs.replace(one, session=request.session, captured_at=time.time())
            for one in media[start : start + PAGE]
        ]
        yield PageRead(number=number, way="feed", media=page, pins=PAGE)


@asynccontextmanager
async def system(nats_url: str, site: str) -> AsyncIterator[str]:
    """All services in this loop; gives the gateway's WebSocket."""
    port = free_port()
    environ = {
        **PATIENT,
        "NATS_URL": nats_url,
        "SITE_URL": site,
        "MEDIA_HOSTS": urlsplit(site).netloc,
        "GATEWAY_PORT": str(port),
        "HEALTH_PORT": "0",
    }
    stop = asyncio.Event()

    async def crawler() -> None:
        settings = from_environment(CrawlerSettings, environ)
        async with connect(settings, "crawler") as bus:
            read = lambda request, report: pages(request, report, site)  # noqa: E731
            await work(bus, settings, stop, read, lambda: True)

    serving = [
        asyncio.create_task(crawler()),
        asyncio.create_task(transformer(from_environment(TransformerSettings, environ), stop)),
        asyncio.create_task(dedup(from_environment(DedupSettings, environ), stop)),
        asyncio.create_task(gateway(from_environment(GatewaySettings, environ), stop)),
    ]

    async def listening() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await wait_for(listening, "the gateway listens")
        yield f"ws://127.0.0.1:{port}/ws"
    finally:
        stop.set()
        _, late = await asyncio.wait(serving, timeout=20)
        await end(*late)
        for task in serving:
            task.result()


async def search(url: str, bus: Bus) -> None:
    """One, to its end, its raw media removed."""
    found = [video async for video in Client(url).search("calls", limit=5000)]
    assert len(found) == VIDEOS

    await wait_for(lambda: tidied(bus), "the session's raw media are removed")


@pytest.fixture
def garbage() -> Iterator[None]:
    """What a gateway asks of the collector ends with it."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


async def test_a_video_costs_no_more_calls_than_are_written_down(broker: Broker, garbage: None) -> None:
    async with connect(Settings(nats_url=broker.url), "test") as bus:
        await set_up(bus, StreamSettings())
        with running_site() as site:
            async with system(broker.url, site.origin) as url:
                await search(url, bus)  # whose videos are resolved
                began = time.monotonic()
                with counted_calls() as files:
                    await search(url, bus)
                seconds = time.monotonic() - began
    calls: Counter[str] = Counter()
    for file, count in files.items():
        if (part := part_of(file)) is not None:
            calls[part] += count
    for part, count in calls.most_common():
        print(f"  {part}: {count / VIDEOS:.1f} a video")
    most = {part: bound.most + bound.second * seconds / VIDEOS for part, bound in BOUNDS.items()}
    assert {part: calls[part] / VIDEOS for part in most if calls[part] / VIDEOS > most[part]} == {}
    known = {*BOUNDS, *OTHERS}
    new = {part: count / VIDEOS for part, count in calls.items() if part not in known and count > VIDEOS}
    assert new == {}, "what is new in the way of a video needs a bound, and a reason"


def test_no_bound_would_let_the_calls_double() -> None:
    assert {part for part, bound in BOUNDS.items() if bound.most >= 2 * bound.measured} == set()
