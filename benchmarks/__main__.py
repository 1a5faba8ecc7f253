"""`scripts/bench`: runs the benchmarks one after the other, and makes the tables of README.md anew.

Each is a program of its own; those of the common form (`results.py`) keep their figures without being asked.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from typing import Annotated

import msgspec
import typer

from benchmarks.results import write_tables


class Bench(msgspec.Struct, frozen=True):
    """A module with its arguments: always, of a whole run, and of one of a minute or two that keeps nothing."""

    module: str
    always: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    quick: tuple[str, ...] = ("--quick",)


NOT_KEPT = f"--out={tempfile.gettempdir()}"
BENCHES = {
    "peers": Bench("bench_peers"),
    "capacity-feed": Bench("bench_capacity", ("--way", "feed"), (), ("--sessions=5", "--seconds=20", NOT_KEPT)),
    "capacity-page": Bench("bench_capacity", ("--way", "page"), (), ("--sessions=2", "--seconds=20", NOT_KEPT)),
    "footprint": Bench("bench_footprint", (), (), ("--sessions=5", "--seconds=10", NOT_KEPT)),
    "tracing": Bench("bench_tracing", ("--media=fresh",), ("--save=fresh-2-percent",), ("--pairs=2",)),
    "pipeline": Bench("bench_pipeline"),
    "cost": Bench("bench_cost"),
    "verification": Bench("bench_verification", (), ("--save=latest",), ("--seconds=5", "--scenarios=steady")),
    "admission": Bench("bench_admission", (), ("--save=admission",), ("--searches=100",)),
    "scaling": Bench("bench_scaling"),
    "capacity-plan": Bench("simulate_capacity", (), ("--save",), ("--check",)),
    "gateway-load": Bench(
        "bench_gateway_load", (), (), ("--idle=200", "--sessions=20", "--seconds=5", "--lie-s=2", NOT_KEPT)
    ),
}


def main(
    only: Annotated[list[str] | None, typer.Option(help="one of them; may be given more than once")] = None,
    quick: Annotated[bool, typer.Option(help="a first look: few runs of little; the figures are not kept")] = False,
    tables: Annotated[
        bool, typer.Option(help="nothing is run; README.md's tables are made anew from what is kept")
    ] = False,
) -> None:
    """Run all, or some; exit 1 where one failed."""
    unknown = set(only or ()) - set(BENCHES)
    if unknown:
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    failed: list[str] = []
    for name in () if tables else only or BENCHES:
        bench = BENCHES[name]
        arguments = [*bench.always, *(bench.quick if quick else bench.whole)]
        command = [sys.executable, "-m", f"benchmarks.{bench.module}", *arguments]
        typer.echo(f"bench: {name}: {' '.join(command[1:])}", err=True)
        began = time.monotonic()
        code = subprocess.run(command, check=False).returncode
        typer.echo(f"bench: {name} ended with {code} after {time.monotonic() - began:.0f} s", err=True)
        failed += [name] * bool(code)
    if not quick:
        write_tables()
    if failed:
        typer.echo(f"bench: failed: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
