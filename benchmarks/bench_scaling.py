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

import msgspec
import typer

from benchmarks.results import save, table
from benchmarks.scaling import corpus, followers, keys, replicas, sessions
from benchmarks.scaling.curve import Curve, curve, is_kept
from benchmarks.scaling.page import DOCS, made, of_curves
from benchmarks.seeds import CorpusOption
from libs.common.loop import run_main
from services.gateway.open_files import raise_open_files

PAGE = DOCS / "scaling.md"
COMMAND = "python -m benchmarks.bench_scaling --only {}"

Measure = Callable[[bool, str], Coroutine[Any, Any, Curve]]


def _sized(measure: Callable[[Any], Coroutine[Any, Any, Curve]], of: Any) -> Measure:
    def sized(quick: bool, corpus: str) -> Coroutine[Any, Any, Curve]:
        sizes = of.QUICK if quick else of.Sizes()
        return measure(msgspec.structs.replace(sizes, corpus=corpus) if hasattr(sizes, "corpus") else sizes)

    return sized


CURVES: dict[str, Measure] = {
    **{name: _sized(measure, replicas) for name, measure in replicas.CURVES.items()},
    "sessions": _sized(sessions.browsed, sessions),
    "sessions-paced": _sized(sessions.paced, sessions),
    "corpus": _sized(corpus.corpus, corpus),
    "keys": _sized(keys.keys, keys),
    "servers": _sized(keys.servers, keys),
    "followers": _sized(followers.followers, followers),
}

QUICK = ("dedup", "whole", "sessions", "corpus", "keys", "servers", "followers")  # one of each kind


def main(
    only: Annotated[list[str] | None, typer.Option(help="one of the curves; may be given more than once")] = None,
    quick: Annotated[
        bool, typer.Option(help="a first look: one curve of each kind, its first points, one run; not kept")
    ] = False,
    word: CorpusOption = "",
    plots: Annotated[bool, typer.Option(help="measure nothing; plots and tables are made of what is kept")] = False,
) -> None:
    """Measure, print and keep; then draw."""
    raise_open_files()
    unknown = set(only or ()) - set(CURVES)
    if unknown:
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(CURVES)}")
    for name in () if plots else only or (QUICK if quick else CURVES):
        began = time.monotonic()
        command = COMMAND.format(name) + (f" --corpus {word}" if word else "")
        found = run_main(CURVES[name](quick, word)).results(command)
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
