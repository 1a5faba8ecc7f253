"""What one search costs, counted: nothing here depends on how fast the machine is, so a doubled count is a change.

The bounds are in `counts.toml`, with the reason of each. What happens by the clock (heartbeats, renewals, looks at
queues) has an allowance for each second that was counted; what a video costs has none.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec
import pytest

from libs.client.broker import Broker, free_port
from libs.client.client import Client
from libs.client.local import LocalOptions, LocalStack
from libs.common.bus import Bus, connect
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, streams
from tests.broker_tap import tapped
from tests.e2e.answer import assert_right
from tests.fake_pinterest import expected_results, running_site
from tests.patient import PATIENT
from tests.tidied import tidied
from tests.wait import wait_for

QUERY = "ceramic glaze pins:200 seed:counts"
VIDEOS = 95  # of it
A_FEW = 10  # of a kind without a bound: what happens once in a long while, on a slow machine
SERVICES = ("gateway", "crawler", "transformer", "dedup")


class Bound(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most that there may be of something, and what there was besides what happens by the clock."""

    measured: float
    why: str
    search: float = 0.0
    video: float = 0.0
    second: float = 0.0

    def most(self, videos: int, seconds: float = 0.0) -> float:
        by_clock_alone = seconds > 0 and not self.search and not self.video  # one falls into a short time, too
        return self.search + self.video * videos + self.second * seconds + (1 if by_clock_alone else 0)


BOUNDS = msgspec.convert(
    tomllib.loads(Path(__file__).with_name("counts.toml").read_text()), dict[str, dict[str, Bound]]
)


class Counts(msgspec.Struct):
    """By group, as the file has it: how many of what."""

    videos: int
    seconds: float
    found: dict[str, dict[str, float]]


class Site:
    """The stand-in's counter of requests, by kind."""

    def __init__(self, origin: str, client: httpx2.AsyncClient) -> None:
        self.url, self.client = f"{origin}/_stand_in/requests", client

    async def begin(self) -> None:
        await self.client.delete(self.url)

    async def counts(self) -> dict[str, float]:
        answer: dict[str, Any] = (await self.client.get(self.url)).json()
        return {kind: n for kind, n in answer.items() if kind not in ("total", "statuses", "stand_in")}


class Wire:
    """The bytes of messages that each service's connection has had, in and out, by the broker's own counters."""

    def __init__(self, monitoring: str, client: httpx2.AsyncClient) -> None:
        self.url, self.client = f"{monitoring}/connz", client

    async def counts(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for connection in (await self.client.get(self.url)).json()["connections"]:
            found[connection.get("name", "")] += connection["in_bytes"] + connection["out_bytes"]
        return Counter({service: found[service] for service in SERVICES})


async def stored(bus: Bus) -> Counter[str]:
    """How many messages each stream has ever taken."""
    names = [config["name"] for config in streams(StreamSettings())]
    answers = [await bus.api(f"STREAM.INFO.{name}") for name in names]
    return Counter({name: answer["state"]["last_seq"] for name, answer in zip(names, answers, strict=True)})


@pytest.fixture
async def counts(tmp_path: Path) -> AsyncIterator[Counts]:
    """Those of one search of the whole system, each service a process, with a broker of its own."""
    port = free_port()
    broker = Broker(tmp_path, config=f'http: "127.0.0.1:{port}"\n')
    broker.start()
    try:
        with running_site() as running:
            options = LocalOptions(
                nats_url=broker.url,
                site_url=running.origin,
                media_hosts=urlsplit(running.origin).netloc,
                environ=PATIENT,
            )
            async with (
                LocalStack(options) as stack,
                httpx2.AsyncClient(trust_env=False) as client,
                connect(Settings(nats_url=broker.url), "test") as bus,
            ):
                yield await _counted(stack, bus, Site(running.origin, client), Wire(f"http://127.0.0.1:{port}", client))
    finally:
        broker.stop()


async def _counted(stack: LocalStack, bus: Bus, site: Site, wire: Wire) -> Counts:
    async with tapped(stack.nats_url) as tap:
        stored_before, wire_before = await stored(bus), await wire.counts()
        await site.begin()
        tap.begin()
        search = Client(stack.ws_url).search(QUERY, limit=5000)
        videos = [video async for video in search]
        await wait_for(lambda: tidied(bus), "the session's raw media are removed")
        kinds = Counter(tap.messages)
        seconds = tap.seconds
    assert_right(videos, expected_results(QUERY))
    return Counts(
        len(videos),
        seconds,
        {
            "stored": dict(await stored(bus) - stored_before),
            "messages": dict(kinds),
            "requests": await site.counts(),
            "bytes": dict(await wire.counts() - wire_before),
        },
    )


async def test_a_video_costs_no_more_than_the_counts_that_are_written_down(counts: Counts) -> None:
    over, unknown = [], []
    for group, found in counts.found.items():
        print(f"[{group}] {counts.videos} videos, {counts.seconds:.1f} s")
        for kind, count in sorted(found.items()):
            print(f"  {kind}: {count}, {count / counts.videos:.3f} a video")
            bound = BOUNDS[group].get(kind)
            if bound is None and count >= A_FEW:
                unknown.append(f"{group}: {kind}: {count}")
            elif bound is not None and count > (most := bound.most(counts.videos, counts.seconds)):
                over.append(f"{group}: {kind}: {count} > {most:.0f} ({bound.why})")
    assert over == []
    assert unknown == [], "what is new needs a bound, and a reason"


@pytest.mark.parametrize("group", BOUNDS)
def test_no_bound_would_let_a_count_double(group: str) -> None:
    by_video = {kind: bound for kind, bound in BOUNDS[group].items() if bound.most(VIDEOS)}
    assert {kind for kind, bound in by_video.items() if bound.most(VIDEOS) >= 2 * bound.measured} == set()
