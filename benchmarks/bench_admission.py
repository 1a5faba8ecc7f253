"""What it costs a search to be counted over all gateways, against one that is not, and a record changed on condition.

`python -m benchmarks.bench_admission` begins `--searches` of each in turn, one after the other, with a broker of its
own; the counted ones hear their own request in the log before they are admitted. `running` are under way at the end.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Annotated

import structlog
import typer

from libs.client.broker import running_broker
from libs.common.bus import connect
from libs.common.frames import InitiateParameters
from libs.common.loop import run_main
from libs.common.pace import Rate
from libs.common.session_log import session_log
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, set_up
from services.gateway.callers import Caller
from services.gateway.limits import Limits, limits
from services.gateway.sessions import Sessions
from services.gateway.settings import GatewaySettings

CALLER = Caller(owner="key:bench", place="bench")
MANY = 10**9
UNLIMITED = GatewaySettings(sessions_most=MANY, sessions_per_key=MANY)


class Timed:
    """Milliseconds of each kind of step."""

    def __init__(self) -> None:
        self.ms: dict[str, list[float]] = {}

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[None]:
        """One of it, meanwhile."""
        began = time.perf_counter()
        yield
        self.ms.setdefault(name, []).append((time.perf_counter() - began) * 1000)

    def figures(self) -> dict[str, dict[str, float]]:
        """Of each kind."""
        return {
            name: {"p50": round(median(found), 3), "p99": round(quantiles(found, n=100)[98], 3)}
            for name, found in self.ms.items()
        }


class TimedLimits(Limits):
    """Tells how long the second look takes."""

    timed: Timed

    async def confirm(self, caller: Caller, sequence: int) -> None:
        """As it is."""
        async with self.timed.step("of it: heard in the log, and counted"):
            await super().confirm(caller, sequence)


async def measure(url: str, searches: int) -> dict[str, object]:
    """The figures."""
    timed, wanted = Timed(), InitiateParameters(search_query="pots")
    async with connect(Settings(nats_url=url), "bench") as bus:
        await set_up(bus, StreamSettings())
        async with session_log(bus) as log, limits(UNLIMITED, log) as made:
            counting = TimedLimits(made.settings, made.census, made.rates, made.lag)
            counting.timed = timed
            plain, counted = Sessions(log, 600.0), Sessions(log, 600.0, limits=counting)
            for _ in range(searches):
                async with timed.step("begun, not counted"):
                    await plain.begin(wanted, caller=CALLER)
                async with timed.step("begun, counted"):
                    await counted.begin(wanted, caller=CALLER)
                async with timed.step("a record changed on condition"):
                    await made.rates.take("bench", Rate(float(MANY), MANY))
            return {"searches": searches, "running": made.census.count(), "ms": timed.figures()}


def main(
    searches: Annotated[int, typer.Option(min=100, help="of each kind")] = 400,
    save: Annotated[str, typer.Option(help="name of the file in results/; nothing is kept without")] = "",
) -> None:
    """Measure and print."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as store, running_broker(Path(store)) as broker:
        figures = run_main(measure(broker.url, searches))
    at = datetime.now(UTC).isoformat(timespec="seconds")
    figures |= {"processors": len(os.sched_getaffinity(0)), "load_before": load, "at": at}
    text = json.dumps(figures, indent=2) + "\n"
    sys.stdout.write(text)
    if save:
        (Path(__file__).parent / "results" / f"{save}.json").write_text(text)


if __name__ == "__main__":
    typer.run(main)
