"""Does verification keep pace with 50 sessions?

    python -m benchmarks.bench_verification [--seconds 20] [--rate 42] [--latencies 20,80] [--scenarios …]

Raw media of 50 searches of the stand-in come as crawls that find 50 new videos a minute each would emit them: 42 new
videos a second and their re-pins, evenly, whether or not those before are done. The resolver runs as the service runs
it, `ITEMS` at once; the stand-in is a process of its own.

Scenarios: `steady` all is well · `top` as fast as it goes · `slow` each answer of the CDN comes after 3 s · `down` each
is 503 · `dead_host` half of the sessions' media are on a host that takes connections and never answers.

The baseline of a run is one bare HEAD a video by the same HTTP library and client settings, at the same arrivals.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from statistics import quantiles
from typing import Annotated, Any

import httpx2
import structlog
import typer

from benchmarks.corpus import moved, of_sessions
from benchmarks.results import Figure, figure, load, results, save, table
from benchmarks.seeds import CorpusOption
from libs.common.loop import run_main
from libs.common.messages import RawMedia
from services.transformer import egress
from services.transformer.resolver import Resolver
from services.transformer.settings import TransformerSettings
from tests.fake_pinterest.running import RunningSite, running_site

SESSIONS = 50
FAULTS = {"slow": "fault:cdn_slow", "down": "fault:cdn_down times:always"}
Work = Callable[[RawMedia], Awaitable[str]]


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """In milliseconds."""
    if len(values) < 2:
        return {}
    cuts = quantiles(values, n=100, method="inclusive")
    named = {"p50": cuts[49], "p99": cuts[98], "max": max(values)}
    return {name: round(value * 1000, 1) for name, value in named.items()}


async def at_rate(items: list[RawMedia], per_second: float, slots: int, work: Work) -> list[tuple[float, str]]:
    """Each item's time from arrival to its end, and what came of it."""
    free = asyncio.Semaphore(slots)
    done: list[tuple[float, str]] = [(0.0, "")] * len(items)
    started = time.perf_counter()

    async def one(n: int, item: RawMedia) -> None:
        due = started + n / per_second
        await asyncio.sleep(max(due - time.perf_counter(), 0.0))
        async with free:
            what = await work(item)
        done[n] = (time.perf_counter() - due, what)

    async with asyncio.TaskGroup() as group:
        for n, item in enumerate(items):
            group.create_task(one(n, item))
    return done


async def top_rate(items: list[RawMedia], slots: int, work: Work) -> float:
    """Items a second with `slots` under way all the time, over the middle of the run."""
    free = asyncio.Semaphore(slots)
    ends: list[float] = []

    async def one(item: RawMedia) -> None:
        async with free:
            await work(item)
        ends.append(time.perf_counter())

    async with asyncio.TaskGroup() as group:
        for item in items:
            group.create_task(one(item))
    first, last = len(ends) // 10, len(ends) * 8 // 10
    return (last - first) / (ends[last] - ends[first])


@asynccontextmanager
async def black_hole() -> AsyncIterator[str]:
    """The address of a host that takes every connection and answers nothing."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0, backlog=1024)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def requests_seen(site: RunningSite) -> dict[str, int]:
    """What the stand-in was asked since the last call, by kind."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        seen: dict[str, Any] = (await client.get(f"{site.origin}/_stand_in/requests")).json()
        await client.delete(f"{site.origin}/_stand_in/requests")
    return {kind: count for kind, count in seen.items() if kind not in ("total", "statuses", "_stand_in", "stand_in")}


async def resolve_all(settings: TransformerSettings, items: list[RawMedia], rate: float | None) -> dict[str, Any]:
    """One scenario's measures of the resolver; `rate` None: as fast as it goes."""
    async with Resolver(settings) as resolver:

        async def work(item: RawMedia) -> str:
            direct = await resolver.resolve(item)
            if direct.video is None:
                return f"unavailable: {direct.unavailable}"
            return f"{direct.video.kind}{'' if direct.video.verified else ', unverified'}"

        cpu = time.process_time()
        if rate is None:
            top = await top_rate(items, settings.items, work)
            return {"top_items_a_s": round(top, 1), "cpu_ms_an_item": cpu_ms(cpu, len(items))}
        done = await at_rate(items, rate, settings.items, work)
        found: dict[str, Any] = {"cpu_ms_an_item": cpu_ms(cpu, len(items))}
    first = first_of_each(items)
    found["ms"] = percentiles([done[n][0] for n in first])
    kinds = sorted({what for _, what in done})
    found["outcomes"] = {
        kind: {"videos": sum(done[n][1] == kind for n in first)}
        | percentiles([done[n][0] for n in first if done[n][1] == kind])
        for kind in kinds
    }
    found["_done"] = done
    return found


async def bare_heads(settings: TransformerSettings, items: list[RawMedia], rate: float) -> dict[str, Any]:
    """The baseline: one HEAD of the first address of each video."""
    items = [items[n] for n in first_of_each(items)]
    async with egress.client(settings) as client:

        async def work(item: RawMedia) -> str:
            return str((await client.head(item.variants[0].url)).status_code)

        cpu = time.process_time()
        done = await at_rate(items, rate, settings.probes_per_host, work)
        return {"cpu_ms_an_item": cpu_ms(cpu, len(items)), "ms": percentiles([took for took, _ in done])}


def cpu_ms(since: float, items: int) -> float:
    return round((time.process_time() - since) * 1000 / items, 2)


def first_of_each(items: list[RawMedia]) -> list[int]:
    """Where each video comes for the first time."""
    places: dict[str, int] = {}
    for n, item in enumerate(items):
        places.setdefault(item.signature, n)
    return list(places.values())


async def scenario(name: str, latency_ms: int, seconds: float, rate: float, corpus: str) -> dict[str, Any]:
    distinct, seeded = int(seconds * rate), f"seed:{corpus}" if corpus else ""
    with running_site(latency_ms=latency_ms, cdn_latency_ms=latency_ms) as site:
        hosts: tuple[str, ...] = (site.origin.removeprefix("http://"),)
        items = await of_sessions(site.origin, SESSIONS, distinct, f"{FAULTS.get(name, '')} {seeded}")
        arrivals = len(items) / distinct * rate
        found: dict[str, Any] = {"items": len(items), "videos": distinct, "arrivals_a_s": round(arrivals, 1)}
        found["load_before"] = round(os.getloadavg()[0], 1)  # who else uses this machine; 0 is best
        await requests_seen(site)
        async with black_hole() as dead:
            if name == "dead_host":
                hosts = (*hosts, dead.removeprefix("http://"))
                items = [moved(item, site.origin, dead) if int(item.session, 16) % 2 else item for item in items]
            settings = TransformerSettings(site_url=site.origin, media_hosts=hosts)
            if name == "dead_host":
                healthy = [item for item in items if int(item.session, 16) % 2 == 0]
                alone = await resolve_all(settings, healthy, arrivals * len(healthy) / len(items))
                found["baseline_healthy_host_alone_ms"] = alone["ms"]
                await requests_seen(site)
            found |= await resolve_all(settings, items, None if name == "top" else arrivals)
            done = found.pop("_done", [])
            if name == "dead_host":
                for label, odd in (("healthy_host_ms", 0), ("dead_host_ms", 1)):
                    found[label] = percentiles(
                        [done[n][0] for n in first_of_each(items) if int(items[n].session, 16) % 2 == odd]
                    )
            seen = await requests_seen(site)
            found["requests"] = seen
            found["requests_a_video"] = round(sum(seen.values()) / distinct, 2)
            if name == "steady":
                found["baseline_bare_head"] = base = await bare_heads(settings, items, rate)
                found["ratio_to_baseline"] = {
                    "p50": round(found["ms"]["p50"] / base["ms"]["p50"], 2),
                    "p99": round(found["ms"]["p99"] / base["ms"]["p99"], 2),
                }
    return found


async def measure(seconds: float, rate: float, latencies: str, scenarios: str, corpus: str) -> dict[str, Any]:
    """All scenarios at all latencies; prints each as it is done."""
    result: dict[str, Any] = {}
    for name in scenarios.split(","):
        for latency_ms in map(int, latencies.split(",")):
            found = await scenario(name, latency_ms, seconds, rate, corpus)
            result[f"{name} at {latency_ms} ms"] = found
            typer.echo(json.dumps({f"{name} at {latency_ms} ms": found}), err=True)
    return result


def figures_of(told: list[dict[str, Any]], loads: list[float]) -> list[Figure]:
    """A row a scenario; `steady` beside a bare HEAD, a healthy host beside itself alone, in the same runs."""
    found: list[Figure] = []

    def add(of: str, name: str, unit: str, key: Callable[[dict[str, Any]], float | None], against: str = "") -> None:
        runs = [value for one in told if (value := key(one)) is not None]
        base = next((one for one in found if (one.of, one.name) == (against, name)), None)
        if runs:
            found.append(figure(of, name, unit, runs, loads=loads, against=base))

    for row in told[0]:
        for name in ("p50", "p99"):
            beside = (("baseline_bare_head", "one bare HEAD"), ("baseline_healthy_host_alone_ms", "healthy host alone"))
            against = ""
            for key, label in beside:
                if key in told[0][row]:
                    against = f"{row}: {label}"
                    add(against, name, "ms", partial(_quantile, row, key, name))
            own = "" if "healthy" in against else against
            add(row, name, "ms", partial(_quantile, row, "ms", name), own)
            healthy = against if "healthy" in against else ""
            add(f"{row}: healthy host", name, "ms", partial(_quantile, row, "healthy_host_ms", name), healthy)
            add(f"{row}: dead host", name, "ms", partial(_quantile, row, "dead_host_ms", name))
        for name, unit, key in (
            ("CPU", "ms an item", "cpu_ms_an_item"),
            ("as fast as it goes", "items/s", "top_items_a_s"),
            ("requests", "a video", "requests_a_video"),
        ):
            add(row, name, unit, lambda one, row=row, key=key: one[row].get(key))  # type: ignore[misc]
    return found


def _quantile(row: str, key: str, name: str, told: dict[str, Any]) -> float | None:
    found: dict[str, Any] = told[row].get(key, {})
    value: float | None = found.get("ms", found).get(name)
    return value


def main(
    seconds: Annotated[float, typer.Option(help="for how long videos come")] = 20.0,
    rate: Annotated[float, typer.Option(help="new videos a second")] = 42.0,
    latencies: Annotated[str, typer.Option(help="of the CDN and the site, in ms")] = "20,80",
    scenarios: Annotated[str, typer.Option(help="which of those above")] = "steady,top,slow,down,dead_host",
    runs: Annotated[int, typer.Option(help="of all of them")] = 5,
    quick: Annotated[bool, typer.Option(help="a first look; nothing is kept")] = False,
    corpus: CorpusOption = "",
) -> None:
    """Measure, print and keep."""
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if quick:
        seconds, latencies, scenarios, runs = 5.0, "20", "steady,dead_host", 1
    told, loads = [], []
    for _ in range(runs):
        loads.append(load())
        told.append(run_main(measure(seconds, rate, latencies, scenarios, corpus)))
    command = " ".join(["python -m benchmarks.bench_verification", *sys.argv[1:]])
    found = results("verification", command, figures_of(told, loads), packages=["httpx2"], detail={"runs": told})
    sys.stdout.write(table(found))
    if not quick:
        save(found)


if __name__ == "__main__":
    typer.run(main)
