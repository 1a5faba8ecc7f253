"""What a video costs, by service: milliseconds of processor, bytes of messages and of HTTP, memory a session.

`python -m benchmarks.bench_cost` runs the whole system, browser included, against the stand-in (80 ms for each answer
with data, 20 ms for the CDN), warms it up, and gives it searches at once, other ones each time. The processor's time is
that of each service's processes, Chromium and the broker included, less what the same system takes when it is idle;
bytes of messages are those that the broker counts for a connection, those of HTTP what the stand-in reads and writes,
heads included, without TLS. Memory is what a service has more while its searches are under
way than before, for each of them. `--before REV` measures an earlier revision too, by turns in the same run.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

import httpx2
import psutil
import typer

from benchmarks.bench_pipeline import BEFORE, PIPELINE, checkout
from benchmarks.bench_tracing import UNLIMITED
from benchmarks.results import RESULTS, Figure, figure, load, results, save
from benchmarks.seeds import CorpusOption, seed
from libs.client.broker import Broker, free_port
from libs.client.client import Client
from libs.client.local import LocalOptions, LocalStack
from libs.common.tasks import end
from tests.fake_pinterest import RunningSite, running_site
from tests.soak.memory import sample

LATENCY_MS, CDN_LATENCY_MS = 80, 20
IDLE_S = 5.0
SAMPLE_S = 0.5
SERVICES = ("gateway", "crawler", "transformer", "dedup")
OF_TRANSFORMER = ("m3u8", "mp4", "other_page", "pin_page", "PinResource")  # what it asks for; the rest is the browser's


class Cost(NamedTuple):
    """Of one run, by part: ms of processor a video, kB of messages a video, MB of memory a session; and requests and
    kB of HTTP a video, by kind."""

    cpu_ms: dict[str, float]
    wire_kb: dict[str, float]
    memory_mb: dict[str, float]
    requests: dict[str, float]
    http_kb: dict[str, float]


class System:
    """The whole of it."""

    def __init__(self, name: str, stack: LocalStack, broker: Broker, monitoring: str, site: RunningSite) -> None:
        self.name, self.stack, self.broker = name, stack, broker
        self.monitoring, self.site = monitoring, site
        self.sessions = 0

    async def cost(self, searches: int, pins: int, corpus: str) -> Cost:
        """That of so many searches at once."""
        idle_from = self._cpu_s()
        await asyncio.sleep(IDLE_S)
        before = self._cpu_s()
        idle = {part: (before[part] - idle_from[part]) / IDLE_S for part in before}
        memory_before = await asyncio.to_thread(self._memory)
        began = time.monotonic()
        async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
            await client.delete(f"{self.site.origin}/_stand_in/requests")
            wire_before = await self._wire(client)
            samples: list[dict[str, float]] = []
            watching = asyncio.create_task(self._watch(samples))
            found = await asyncio.gather(*(self._search(pins, corpus) for _ in range(searches)))
            await end(watching)
            await asyncio.sleep(1)  # raw media are removed
            wire = await self._wire(client)
            requests = (await client.get(f"{self.site.origin}/_stand_in/requests")).json()
            sizes = (await client.get(f"{self.site.origin}/_stand_in/bytes")).json()
        videos, after, took_s = sum(found), self._cpu_s(), time.monotonic() - began
        most = {part: max(one.get(part, 0.0) for one in samples) for part in memory_before}
        return Cost(
            {part: 1000 * (after[part] - before[part] - idle[part] * took_s) / videos for part in after},
            {part: (wire[part] - wire_before[part]) / 1000 / videos for part in SERVICES},
            {part: (most[part] - memory_before[part]) / searches for part in most},
            {kind: n / videos for kind, n in requests.items() if kind not in ("total", "statuses", "stand_in")},
            {kind: n / 1000 / videos for kind, n in sizes.items() if kind != "stand_in"},
        )

    async def _search(self, pins: int, corpus: str) -> int:
        self.sessions += 1
        name = seed(corpus, f"{self.name.replace(' ', '-')}-{self.sessions}")
        query = f"cost seed:{name} pins:{pins} latency:{LATENCY_MS}"
        return len([video async for video in Client(self.stack.ws_url).search(query, limit=5000)])

    async def _watch(self, samples: list[dict[str, float]]) -> None:
        while True:
            samples.append(await asyncio.to_thread(self._memory))
            await asyncio.sleep(SAMPLE_S)

    def _memory(self) -> dict[str, float]:
        return sample(self.stack)

    async def _wire(self, client: httpx2.AsyncClient) -> Counter[str]:
        found: Counter[str] = Counter()
        for one in (await client.get(f"{self.monitoring}/connz")).json()["connections"]:
            found[one.get("name", "")] += one["in_bytes"] + one["out_bytes"]
        return found

    def _cpu_s(self) -> dict[str, float]:
        """Of each part's processes, those that have ended included."""
        assert self.broker.process is not None
        spent = {"broker": sum(psutil.Process(self.broker.process.pid).cpu_times()[:2])}
        for service in self.stack.services:
            own = psutil.Process(service.pid)
            spent[service.service] = sum(own.cpu_times()[:2])
            children = [one for child in own.children(recursive=True) for one in _times(child)]
            if service.service == "crawler":
                spent["browser"] = sum(children)
            else:
                spent[service.service] += sum(children)
        return spent


def _times(process: psutil.Process) -> list[float]:
    try:
        return list(process.cpu_times()[:4])  # with those of its children that have ended
    except psutil.NoSuchProcess:
        return []


@asynccontextmanager
async def system(name: str, code: Path | None) -> AsyncIterator[System]:
    """With a site and a broker of its own."""
    async with AsyncExitStack() as running:
        site = running.enter_context(running_site(cdn_latency_ms=CDN_LATENCY_MS))
        port = free_port()
        store = Path(running.enter_context(tempfile.TemporaryDirectory()))
        broker = Broker(store, config=f'http: "127.0.0.1:{port}"\n')
        running.callback(broker.stop)
        broker.start()
        environ = {**UNLIMITED, "REQUESTS_PER_SECOND": "100"}
        if code is not None:
            environ |= {"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}
        media = urlsplit(site.origin).netloc
        options = LocalOptions(nats_url=broker.url, site_url=site.origin, media_hosts=media, environ=environ)
        stack = await running.enter_async_context(LocalStack(options))
        yield System(name, stack, broker, f"http://127.0.0.1:{port}", site)


async def measure(runs: int, searches: int, pins: int, before: str, corpus: str) -> list[Figure]:
    """By turns."""
    found: dict[str, list[Cost]] = {}
    loads: dict[str, list[float]] = {}
    async with AsyncExitStack() as running:
        systems = [await running.enter_async_context(system(PIPELINE, None))]
        if before:
            code = running.enter_context(checkout(before))
            systems.append(await running.enter_async_context(system(BEFORE, code)))
        for turn in range(runs + 1):  # the first warms up
            for one in systems if turn % 2 else reversed(systems):
                busy = load()
                cost = await one.cost(searches, pins, corpus)
                if turn:
                    found.setdefault(one.name, []).append(cost)
                    loads.setdefault(one.name, []).append(busy)
                    typer.echo(f"{one.name}: {_told(cost.cpu_ms)} ms, {_told(cost.wire_kb)} kB", err=True)
    whole, parts = _whole(found), found[PIPELINE][0].cpu_ms
    return [*whole, *(each for part in parts for each in _figures(part, found, loads, whole)), *_requests(found)]


def _told(by_part: dict[str, float]) -> str:
    return ", ".join(f"{part} {value:.2f}" for part, value in by_part.items())


def _figures(
    part: str, found: dict[str, list[Cost]], loads: dict[str, list[float]], whole: list[Figure]
) -> list[Figure]:
    figures: list[Figure] = []
    alone = BEFORE not in found  # then each part is held against all of them
    measures: tuple[tuple[str, str, Callable[[Cost], float | None]], ...] = (
        ("CPU", "ms a video", lambda cost: cost.cpu_ms.get(part)),
        ("messages", "kB a video", lambda cost: cost.wire_kb.get(part)),
        ("HTTP", "kB a video", lambda cost: _http_kb(cost, part)),
        ("memory", "MB a session", lambda cost: cost.memory_mb.get(NAMES.get(part, part))),
    )
    for name, unit, of in measures:
        was = next((one for one in whole if alone and one.name == name), None)
        for who in (BEFORE, PIPELINE):
            values = [value for cost in found.get(who, []) if (value := of(cost)) is not None]
            if values:
                row = part if who == PIPELINE else f"{part}, before"
                was = figure(row, name, unit, values, loads=loads[who], against=was)
                figures.append(was)
    return figures


def _http_kb(cost: Cost, part: str) -> float | None:
    """Of those who ask over HTTP."""
    if part not in ("browser", "transformer"):
        return None
    return sum(kb for kind, kb in cost.http_kb.items() if (kind in OF_TRANSFORMER) == (part == "transformer"))


NAMES = {"browser": "chromium", "broker": "nats-server"}


def _whole(found: dict[str, list[Cost]]) -> list[Figure]:
    figures: list[Figure] = []
    was: Figure | None = None
    for who in (BEFORE, PIPELINE):
        if who in found:
            row = "all" if who == PIPELINE else "all, before"
            totals = [sum(cost.cpu_ms.values()) for cost in found[who]]
            was = figure(row, "CPU", "ms a video", totals, against=was)
            figures += [was, figure(row, "messages", "kB a video", [sum(c.wire_kb.values()) for c in found[who]])]
            figures.append(figure(row, "HTTP", "kB a video", [sum(c.http_kb.values()) for c in found[who]]))
    return figures


def _requests(found: dict[str, list[Cost]]) -> list[Figure]:
    """Of HTTP, by kind: those to the site, and those to its CDN (mp4, m3u8)."""
    figures: list[Figure] = []
    for kind in dict.fromkeys(kind for costs in found.values() for cost in costs for kind in cost.requests):
        was: Figure | None = None
        for who in (BEFORE, PIPELINE):
            values = [cost.requests.get(kind, 0.0) for cost in found.get(who, [])]
            if values:
                row = f"requests: {kind}" + (", before" if who == BEFORE else "")
                was = figure(row, "requests", "a video", values, against=was)
                sizes = [cost.http_kb.get(kind, 0.0) for cost in found[who]]
                figures += [was, figure(row, "HTTP", "kB a video", sizes)]
    return figures


def main(
    runs: Annotated[int, typer.Option(help="how often")] = 5,
    searches: Annotated[int, typer.Option(help="at once")] = 5,
    pins: Annotated[int, typer.Option(help="of each search; about half of them are new videos")] = 400,
    before: Annotated[str, typer.Option(help="a revision to measure too")] = "",
    quick: Annotated[bool, typer.Option(help="a first look; nothing is kept")] = False,
    corpus: CorpusOption = "",
) -> None:
    """Prints each run, keeps the figures."""
    if quick:
        runs, searches, pins = 2, 3, 200
    figures = asyncio.run(measure(runs, searches, pins, before, corpus))
    for one in figures:
        ratio = "" if one.ratio is None else f", {one.ratio:.2f} of {one.against}"
        typer.echo(f"{one.of}: {one.name} {one.median} {one.unit}{ratio}")
    if not quick:
        command = " ".join(["python -m benchmarks.bench_cost", *sys.argv[1:]])
        typer.echo(save(results("cost", command, figures, packages=["nats-py", "playwright"]), RESULTS))


if __name__ == "__main__":
    typer.run(main)
