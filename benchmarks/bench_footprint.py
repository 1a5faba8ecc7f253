"""How much memory and processor each service takes, which is what k8s/ requests and limits.

`python -m benchmarks.bench_footprint` runs the whole system on this machine against the stand-in (80 ms for each answer
with data) with 50 searches by the feed, twice: at the usual pace (REQUESTS_PER_SECOND 3), which is what the site is
asked for at most by default, and at one that this machine cannot follow, so that every queue is full. For `--seconds`
from each search's first video on it samples each service's memory with all its children and counts its processor time.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import time
from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime
from statistics import median
from typing import Annotated, Any
from urllib.parse import urlsplit

import psutil
import typer

from benchmarks.bench_capacity import CDN_LATENCY_MS, SAMPLE_S, Searching, has_first
from benchmarks.results import RESULTS
from benchmarks.seeds import CorpusOption
from libs.client.local import LocalOptions, LocalStack
from libs.common.tasks import end
from services.crawler.footprint import footprint_mb, tree_of
from tests.fake_pinterest import running_site

PACES = {"usual": "3", "full": "50"}
BROKER = "nats"


def processes(stack: LocalStack) -> dict[str, int]:
    """The process of each service, and of the broker."""
    assert stack.broker is not None and stack.broker.process is not None, "the broker is one of NATS_URL"
    return {**{service.service: service.pid for service in stack.services}, BROKER: stack.broker.process.pid}


def processor_s(pid: int) -> float:
    """Seconds of processor time of a tree of processes, those of its ended children included."""
    spent = 0.0
    for process in tree_of(pid):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent += times.user + times.system
            spent += getattr(times, "children_user", 0) + getattr(times, "children_system", 0)
    return spent


async def measure(pace: str, sessions: int, seconds: float, corpus: str) -> dict[str, Any]:
    """Runs it at one pace and returns the figures by service."""
    memory: dict[str, list[float]] = defaultdict(list)
    with running_site(cdn_latency_ms=CDN_LATENCY_MS) as site:
        options = LocalOptions(
            site_url=site.origin,
            media_hosts=urlsplit(site.origin).netloc,
            environ={"REQUESTS_PER_SECOND": pace, "SITE_REQUESTS_PER_SECOND": pace, "SESSION_DEADLINE_S": "3000"},
        )
        async with LocalStack(options) as stack:
            of = processes(stack)
            searches = [Searching(stack.ws_url, number, corpus) for number in range(sessions)]
            await has_first(searches)
            before, since = {name: processor_s(pid) for name, pid in of.items()}, time.monotonic()
            while time.monotonic() < since + seconds:
                for name, pid in of.items():
                    memory[name].append(await asyncio.to_thread(footprint_mb, pid))
                await asyncio.sleep(SAMPLE_S)
            took_s = time.monotonic() - since
            after = {name: processor_s(pid) for name, pid in of.items()}
            videos = sum(at >= since for one in searches for at in one.videos)
            await end(*(one.task for one in searches))
    return {
        "requests_per_second": float(pace),
        "videos_per_second": round(videos / took_s, 1),
        "services": {
            name: {
                "memory_mb": {"median": round(median(memory[name])), "most": round(max(memory[name]))},
                "cores": round((after[name] - before[name]) / took_s, 3),
            }
            for name in of
        },
    }


def main(
    sessions: Annotated[int, typer.Option(help="searches at once")] = 50,
    seconds: Annotated[float, typer.Option(help="how long each pace is measured")] = 60.0,
    quick: Annotated[bool, typer.Option(help="a first look; nothing is kept")] = False,
    corpus: CorpusOption = "",
) -> None:
    """Measure, print and keep."""
    sessions, seconds = (5, 10.0) if quick else (sessions, seconds)
    figures = {
        "sessions": sessions,
        "seconds": seconds,
        **{name: asyncio.run(measure(pace, sessions, seconds, corpus)) for name, pace in PACES.items()},
        "machine": {"processors": len(os.sched_getaffinity(0)), "python": platform.python_version()},
        "load_after": os.getloadavg()[0],
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = json.dumps(figures, indent=2)
    sys.stdout.write(text + "\n")
    if not quick:
        (RESULTS / "footprint.json").write_text(text + "\n")


if __name__ == "__main__":
    typer.run(main)
