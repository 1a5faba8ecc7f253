"""What tracing costs of the pipeline's throughput.

`python -m benchmarks.bench_tracing` runs two systems on this machine, one without tracing and one with it as it is by
default, spans sent to a receiver that drops them; by turns each is given the same load, and the ratio of each pair is
what counts. From request to frame all is real but for the browser: the crawler reads the stand-in's catalogue, so that
pages cost nothing. `--media remembered` has the same videos again and again, so that no CDN is asked and messages are
all the work there is: the hardest case. `--media fresh` verifies each.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from enum import StrEnum
from statistics import median
from typing import Annotated
from urllib.parse import urlsplit

import psutil
import typer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.results import AIM_MISSED, Figure, figure, load, results, save, table
from benchmarks.seeds import CorpusOption, seed
from libs.client.client import Client
from libs.client.local import LocalOptions, LocalStack
from libs.common.health import http_server, listen
from libs.common.process import die_with_parent
from tests.fake_pinterest import RunningSite, running_site

LEAST_RATIO = 0.95
WITHOUT, WITH = "without tracing", "with tracing"
SETTLING_S, IDLE = 0.5, 0.08  # cores that all of an idle system takes
UNLIMITED = {
    "SITE_REQUESTS_PER_SECOND": "100",
    "SESSIONS_PER_ADDRESS": "1000",
    "REQUESTS_PER_MINUTE_PER_ADDRESS": "100000",
}


class Media(StrEnum):
    """Which videos."""

    REMEMBERED = "remembered"
    FRESH = "fresh"


class System:
    """One system, and the processes whose time it takes."""

    def __init__(self, stack: LocalStack, crawler: asyncio.subprocess.Process) -> None:
        self.stack = stack
        self.processes = [psutil.Process(pid) for pid in (crawler.pid, *(one.pid for one in stack.services))]

    async def load(self, queries: list[str]) -> tuple[float, float]:
        """Items a second, and ms of processor an item, of these searches at once."""
        before, began = self._cpu_s(), time.monotonic()
        items = sum(await asyncio.gather(*(self._search(query) for query in queries)))
        took_s = time.monotonic() - began
        return items / took_s, 1000 * (self._cpu_s() - before) / items

    async def settled(self) -> None:
        """Returns when it is idle: after a search its raw media are removed one by one."""
        before = self._cpu_s()
        while True:
            await asyncio.sleep(SETTLING_S)
            now = self._cpu_s()
            if now - before < IDLE * SETTLING_S:
                return
            before = now

    async def _search(self, query: str) -> int:
        search = Client(self.stack.ws_url).search(query, limit=5000)
        async with aclosing(search.frames()) as frames:
            async for _ in frames:
                pass
        assert search.completed is not None
        return search.completed.summary.items

    def _cpu_s(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)


@asynccontextmanager
async def system(site: RunningSite, endpoint: str | None, traced_share: float | None) -> AsyncIterator[System]:
    """With tracing as it is by default where there is an endpoint."""
    environ = {**UNLIMITED, "OTEL_METRICS_EXPORTER": "none"}
    if endpoint:
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    if traced_share is not None:
        environ["TRACED_SHARE"] = str(traced_share)
    media = urlsplit(site.origin).netloc
    async with LocalStack(LocalOptions(site_url=site.origin, media_hosts=media, crawlers=0, environ=environ)) as stack:
        given = {**os.environ, **environ, "NATS_URL": stack.nats_url, "SITE_URL": site.origin, "HEALTH_PORT": "0"}
        given |= {"PAGE_PINS": "50", "PAGE_LATENCY_S": "0", "LOG_LEVEL": "WARNING"}
        command = [sys.executable, "-m", "tests.chaos.crawler"]
        crawler = await asyncio.create_subprocess_exec(*command, env=given, preexec_fn=die_with_parent)
        try:
            yield System(stack, crawler)
        finally:
            crawler.terminate()
            await crawler.wait()


@asynccontextmanager
async def receiver() -> AsyncIterator[str]:
    """Takes what is sent by OTLP, and drops it."""

    async def take(request: Request) -> Response:
        await request.body()
        return Response(b"", media_type="application/x-protobuf")

    sock = listen("127.0.0.1", 0)
    async with http_server(Starlette(routes=[Route("/{path:path}", take, methods=["POST"])]), sock):
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


async def measure(
    media: Media, pairs: int, searches: int, pins: int, traced_share: float | None, corpus: str
) -> list[dict[str, float]]:
    """Runs it; what each pair was like."""

    def queries(turn: int) -> list[str]:
        numbers = range(searches) if media is Media.REMEMBERED else range(turn * searches, (turn + 1) * searches)
        return [f"tracing seed:{seed(corpus, number)} pins:{pins}" for number in numbers]

    found: list[dict[str, float]] = []
    async with AsyncExitStack() as running:
        site = running.enter_context(running_site(latency_ms=0, cdn_latency_ms=0))
        endpoint = await running.enter_async_context(receiver())
        plain = await running.enter_async_context(system(site, None, None))
        traced = await running.enter_async_context(system(site, endpoint, traced_share))
        for one in (plain, traced):
            await one.load(queries(0))  # remembered from now on
        for turn in range(1, pairs + 1):
            order = [("off", plain), ("on", traced)]
            figures = {"load": load()}
            for name, one in order if turn % 2 else reversed(order):
                await plain.settled()
                await traced.settled()
                figures[f"{name}_items_s"], figures[f"{name}_cpu_ms"] = await one.load(queries(turn))
            figures["ratio"] = figures["on_items_s"] / figures["off_items_s"]
            figures["cpu_ratio"] = figures["on_cpu_ms"] / figures["off_cpu_ms"]
            found.append(figures)
            typer.echo("  ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    return found


def figures_of(pairs: list[dict[str, float]]) -> list[Figure]:
    """Without and with it; the ratio of each pair is a row, for the machine's mood is that of both."""
    loads = [one["load"] for one in pairs]
    found = []
    for name, unit, key in (("throughput", "items/s", "items_s"), ("processor", "ms an item", "cpu_ms")):
        off = figure(WITHOUT, name, unit, [one[f"off_{key}"] for one in pairs], loads=loads)
        found += [off, figure(WITH, name, unit, [one[f"on_{key}"] for one in pairs], loads=loads, against=off)]
    for name, key in (("throughput", "ratio"), ("processor", "cpu_ratio")):
        found.append(figure("pair by pair", name, "with over without", [one[key] for one in pairs], loads=loads))
    return found


def main(
    media: Annotated[Media, typer.Option(help="which videos")] = Media.FRESH,
    pairs: Annotated[int, typer.Option(help="how often both are measured")] = 6,
    searches: Annotated[int, typer.Option(help="at once")] = 10,
    pins: Annotated[int, typer.Option(help="of each search")] = 200,
    traced_share: Annotated[float | None, typer.Option(help="TRACED_SHARE, instead of its default")] = None,
    quick: Annotated[bool, typer.Option(help="a first look; nothing is kept")] = False,
    corpus: CorpusOption = "",
) -> None:
    """Measure, print and keep; exit 3 where the median of the pairs is less than is asked for."""
    found = asyncio.run(measure(media, 2 if quick else pairs, searches, pins, traced_share, corpus))
    figures = figures_of(found)
    share = f"-{traced_share:g}" if traced_share is not None else ""
    command = " ".join(["python -m benchmarks.bench_tracing", *sys.argv[1:]])
    made = results(
        f"tracing-{media}{share}", command, figures, packages=["nats-py", "opentelemetry-sdk"], detail={"pairs": found}
    )
    sys.stdout.write(table(made))
    if not quick:
        save(made)
    ratio = median(one["ratio"] for one in found)
    typer.echo(f"throughput with tracing: {ratio:.3f} of that without (at least {LEAST_RATIO} is asked for)", err=True)
    sys.exit(0 if ratio >= LEAST_RATIO else AIM_MISSED)


if __name__ == "__main__":
    typer.run(main)
