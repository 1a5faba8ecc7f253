"""The soak: the whole system at full load for a while; does any part of it grow, is any answer wrong?

Each part is held against itself: the median of its memory over a window right after the warm-up, and over one as long
at the end. Medians, because the browser is replaced from time to time: its memory is a saw's teeth, of which two single
samples would compare a peak with a valley, and for a moment two browsers run. Of a run of 30 minutes or more warm-up
and windows are 10 minutes each, so that a window holds two or three browsers (with windows of 5 minutes the young
browser of the first was compared with an old one); of a shorter run a third, which says little of what comes after.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.table import Table

from libs.client.errors import BrokerMissing, StackFailed
from libs.client.local import LocalOptions, LocalStack
from libs.common.exit_codes import EX_UNAVAILABLE
from libs.common.tasks import end
from tests.fake_pinterest import running_site
from tests.soak.load import Served
from tests.soak.memory import EVERY_S, FOR_INFORMATION, Growth, Memory, Sample, windows

MOST_TOLD = 20
REPLACED, FAILED = "a new browser serves", "the browser failed"  # lines of the crawler's log
ENVIRON = {"REQUESTS_PER_SECOND": "100", "SITE_REQUESTS_PER_SECOND": "50", "SESSIONS": "4", "WARM_CONTEXTS": "2"}


class Browsers:
    """How often the browser was replaced, and why it failed, as the crawlers' logs say."""

    def __init__(self, stack: LocalStack) -> None:
        self.replaced = 0
        self.failed: list[str] = []
        for crawler in stack.processes("crawler"):
            for line in crawler.log.read_text(errors="replace").splitlines():
                if f'"{REPLACED}"' in line:
                    self.replaced += 1
                elif f'"{FAILED}"' in line:
                    self.failed.append(line)


async def soak(minutes: float, seed: int, samples: Path | None) -> int:
    """Runs it and prints what came of it; returns the exit code."""
    served, memory = Served(), Memory()

    def told(at_s: float, found: Sample) -> None:
        if samples is not None:
            with samples.open("a") as file:
                file.write(json.dumps({"at_s": round(at_s, 1), "sessions": served.sessions, **found}) + "\n")
        if round(at_s / EVERY_S) % 6 == 0:
            levels = "  ".join(f"{part} {mb:.0f}" for part, mb in sorted(found.items()))
            _say(f"{at_s / 60:4.1f} min  {served.sessions} sessions, {len(served.wrong)} wrong  {levels}")

    with running_site() as site:
        options = LocalOptions(
            site_url=site.origin, media_hosts=urlsplit(site.origin).netloc, environ=ENVIRON, say=_say
        )
        async with LocalStack(options) as stack:
            watching = asyncio.create_task(memory.watch(stack, told), name="memory")
            try:
                await served.load(stack.ws_url, seed, minutes * 60)
            finally:
                await end(watching)
            browsers = Browsers(stack)
            restarts = sum(service.restarts for service in stack.services)
    growth = memory.growth(minutes * 60)
    _show(growth, minutes)
    print(f"sessions {served.sessions}, of which cancelled {served.cancelled}, wrong {len(served.wrong)}")
    print(f"videos {served.videos}")
    print(f"browsers replaced {browsers.replaced}, failed {len(browsers.failed)}; services restarted {restarts}")
    for line in [*served.wrong, *browsers.failed][:MOST_TOLD]:
        print(f"wrong: {line}")
    grew = [part for part in growth if not part.flat and part.part not in FOR_INFORMATION]
    return 1 if grew or served.wrong or browsers.failed or restarts else 0


def _show(growth: list[Growth], minutes: float) -> None:
    first, last = windows(minutes * 60)
    table = Table(box=None, pad_edge=False)
    table.add_column("service")
    for window in (first, last):
        table.add_column(f"MB, minutes {window[0] / 60:.1f} to {window[1] / 60:.1f}", justify="right")
    table.add_column("growth", justify="right")
    table.add_column("within 10 %")
    for part in growth:
        verdict = "(for information)" if part.part in FOR_INFORMATION else "yes" if part.flat else "NO"
        table.add_row(part.part, f"{part.warm_mb:.1f}", f"{part.last_mb:.1f}", f"{part.share:+.1%}", verdict)
    Console(width=100).print(table)


def _say(line: str) -> None:
    print(f"soak: {line}", file=sys.stderr, flush=True)


def main(
    minutes: Annotated[float, typer.Option(min=0.5, help="how long; 30 is what is promised")] = 30.0,
    seed: Annotated[int, typer.Option(help="of the searches that are made")] = 1,
    samples: Annotated[
        Path | None, typer.Option(help="file for the samples, as JSON lines", show_default=False)
    ] = None,
) -> None:
    """The whole system at full load; exit code 1 where a part grew by more than 10 % or an answer was wrong."""
    try:
        code = asyncio.run(soak(minutes, seed, samples))
    except (BrokerMissing, StackFailed) as error:
        print(f"soak: {error}", file=sys.stderr)
        code = EX_UNAVAILABLE
    raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(main)
