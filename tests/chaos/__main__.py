"""`scripts/chaos`: random faults for some minutes, then the account. Exit code 1: lost or repeated."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import sys
from pathlib import Path
from random import SystemRandom
from typing import Annotated

import structlog
import typer

from libs.common.exit_codes import EX_INTERRUPTED
from tests.chaos.options import KINDS, ChaosOptions
from tests.chaos.report import Report
from tests.chaos.run import run
from tests.fake_pinterest import running_site


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


async def _run(options: ChaosOptions, origin: str) -> Report:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await run(options, origin, _say)


def main(
    minutes: Annotated[float, typer.Option(help="how long faults are injected")] = 2.0,
    seed: Annotated[int | None, typer.Option(help="of the schedule of faults and of the requests")] = None,
    replicas: Annotated[int, typer.Option(help="of every service")] = 2,
    server: Annotated[str, typer.Option(help="nats-server: 2.12, 2.14 or 2.15")] = "2.15",
    cluster: Annotated[bool, typer.Option("--cluster", help="three servers, whose leaders are killed")] = False,
    crawler: Annotated[str, typer.Option(help="catalogue, or browser: the real one with Chromium")] = "catalogue",
    kills_per_second: Annotated[float, typer.Option(help="kill -9 of any replica")] = 3.0,
    clients: Annotated[int, typer.Option(help="sessions at once")] = 64,
    settle_s: Annotated[float, typer.Option(help="how long all may take to come to rest")] = 120.0,
    without: Annotated[list[str] | None, typer.Option(help=f"a kind of fault to leave out: {', '.join(KINDS)}")] = None,
    folder: Annotated[Path | None, typer.Option(help="for the logs; kept", show_default=False)] = None,
) -> None:
    """Nothing lost, nothing twice: random faults against the whole system."""
    chosen = SystemRandom().randrange(1, 10**6) if seed is None else seed
    options = ChaosOptions(
        minutes=minutes,
        seed=chosen,
        replicas=replicas,
        server=server,
        cluster=cluster,
        crawler="browser" if crawler == "browser" else "catalogue",
        kills_per_second=kills_per_second,
        clients=clients,
        without=tuple(without or ()),
        settle_s=settle_s,
        folder=folder,
    )
    # the connections of this process are cut as well, and say so
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    _say(f"seed {chosen}; again by: {options.command}")
    try:
        with running_site(cdn_latency_ms=2) as site:
            report = asyncio.run(_run(options, site.origin))
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise typer.Exit(EX_INTERRUPTED) from None
    print(report.text())
    if report.failures:
        raise typer.Exit(1)
    if folder is None:
        shutil.rmtree(report.folder, ignore_errors=True)


if __name__ == "__main__":
    typer.run(main)
