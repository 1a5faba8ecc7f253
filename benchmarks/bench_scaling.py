"""How throughput and latency scale, and where each curve bends.

`python -m benchmarks.bench_scaling` measures, one curve after the other: one, two and four replicas of each stage; 1 to
200 sessions; corpora of 100 to 100,000 items; a session log of a thousand to a million keys; 1 to 16 processes that
follow the log. Each keeps `results/scaling-NAME.json`; `--plots` makes the SVGs of docs/scaling and the tables of
docs/scaling.md of what is kept. The broker, the services and the stand-in are processes on this machine, and so are the
clients: on two cores, who makes the load takes part of what is measured, which the results say (`cores load`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer

from benchmarks.results import save, table
from benchmarks.scaling import corpus, followers, keys, replicas, sessions
from benchmarks.scaling.curve import Curve, curve, is_kept
from benchmarks.scaling.page import DOCS, made, of_curves
from libs.common.loop import run_main
from services.gateway.open_files import raise_open_files

PAGE = DOCS / "scaling.md"
COMMAND = "python -m benchmarks.bench_scaling --only {}"

Measure = Callable[[bool], Coroutine[Any, Any, Curve]]


def _sized(measure: Callable[[replicas.Sizes], Coroutine[Any, Any, Curve]]) -> Measure:
    return lambda quick: measure(replicas.QUICK if quick else replicas.Sizes())


CURVES: dict[str, Measure] = {
    **{name: _sized(measure) for name, measure in replicas.CURVES.items()},
    "sessions": lambda quick: sessions.browsed(sessions.QUICK if quick else sessions.Sizes()),
    "sessions-paced": lambda quick: sessions.paced(sessions.QUICK if quick else sessions.Sizes()),
    "corpus": lambda quick: corpus.corpus(corpus.QUICK if quick else corpus.Sizes()),
    "keys": lambda quick: keys.keys(keys.QUICK if quick else keys.Sizes()),
    "servers": lambda quick: keys.servers(keys.QUICK if quick else keys.Sizes()),
    "followers": lambda quick: followers.followers(followers.QUICK if quick else followers.Sizes()),
}

QUICK = ("dedup", "whole", "sessions", "corpus", "keys", "servers", "followers")  # one of each kind


def main(
    only: Annotated[list[str] | None, typer.Option(help="one of the curves; may be given more than once")] = None,
    quick: Annotated[
        bool, typer.Option(help="a first look: one curve of each kind, its first points, one run; not kept")
    ] = False,
    plots: Annotated[bool, typer.Option(help="measure nothing; plots and tables are made of what is kept")] = False,
) -> None:
    """Measure, print and keep; then draw."""
    raise_open_files()
    unknown = set(only or ()) - set(CURVES)
    if unknown:
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(CURVES)}")
    for name in () if plots else only or (QUICK if quick else CURVES):
        began = time.monotonic()
        found = run_main(CURVES[name](quick)).results(COMMAND.format(name))
        sys.stdout.write(f"{found.detail['title']}\n{table(found)}\n")
        typer.echo(f"scaling: {name} took {time.monotonic() - began:.0f} s", err=True)
        if not quick:
            save(found)
    if not quick:
        write()


def write() -> None:
    """The plots, and the tables of docs/scaling.md, of what is kept."""
    from benchmarks.scaling.plots import draw

    for name in CURVES:
        if is_kept(name):
            draw(curve(name), DOCS / "scaling" / f"{name}.svg")
    PAGE.write_text(made(PAGE.read_text(), of_curves(list(CURVES))))


if __name__ == "__main__":
    typer.run(main)
