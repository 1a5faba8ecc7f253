"""`scripts/bench`: runs the benchmarks one after the other, and makes the tables of README.md anew.

Each is a program of its own; those of the common form (`results.py`) keep their figures without being asked. One that
fails, or hangs, does not keep the others from being run: what became of each is said at the end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

import msgspec
import typer

from benchmarks.results import AIM_MISSED, write_tables
from benchmarks.seeds import CorpusOption
from libs.common.process import die_with_parent


class Bench(msgspec.Struct, frozen=True):
    """A module with its arguments. Each knows `--quick`: a minute or two, and nothing is kept."""

    module: str
    arguments: tuple[str, ...] = ()
    has_corpus: bool = True


BENCHES = {
    "peers-search": Bench("bench_peers", ("--part=search",)),
    "peers-board": Bench("bench_peers", ("--part=board",)),
    "peers-faults": Bench("bench_peers", ("--part=faults",), has_corpus=False),
    "capacity-feed": Bench("bench_capacity", ("--way=feed",)),
    "capacity-page": Bench("bench_capacity", ("--way=page",)),
    "footprint": Bench("bench_footprint"),
    "tracing": Bench("bench_tracing", ("--media=fresh",)),
    "tracing-remembered": Bench("bench_tracing", ("--media=remembered",)),
    "pipeline": Bench("bench_pipeline"),
    "cost": Bench("bench_cost"),
    "verification": Bench("bench_verification"),
    "admission": Bench("bench_admission", has_corpus=False),
    "scaling": Bench("bench_scaling"),
    "capacity-plan": Bench("simulate_capacity", ("--save",), has_corpus=False),
    "gateway-load": Bench("bench_gateway_load", has_corpus=False),
}


def chosen(only: list[str] | None) -> list[str]:
    """All, or those that are named, by a name or by how it begins: `peers`; raises BadParameter."""
    found = [name for name in BENCHES if not only or any(f"{name}-".startswith(f"{one}-") for one in only)]
    unknown = [one for one in only or () if not any(f"{name}-".startswith(f"{one}-") for name in BENCHES)]
    if unknown:
        raise typer.BadParameter(f"unknown: {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    return found


def arguments(bench: Bench, quick: bool, corpus: str) -> list[str]:
    """Of its program."""
    of_corpus = [f"--corpus={corpus}"] if corpus and bench.has_corpus else []
    return [*bench.arguments, *(["--quick"] if quick else []), *of_corpus]


def command_of(bench: Bench, quick: bool, corpus: str) -> list[str]:
    """With this Python."""
    return [sys.executable, "-m", f"benchmarks.{bench.module}", *arguments(bench, quick, corpus)]


def _mortal() -> None:
    """It does not outlive this process, and hears SIGINT, which what a shell runs in the background ignores."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(command: list[str], patience_s: float) -> str:
    """What became of it: `ran`, `ran; an aim was missed`, or how it failed."""
    # a process group of its own, to be ended with all that it has begun
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=_mortal)  # noqa: PLW1509
    try:
        code = process.wait(patience_s)
    except BaseException as error:  # Ctrl-C goes to the foreground alone, of which it is no part
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: what it has begun is ended
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with suppress(ProcessLookupError):  # what has not heard it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        return f"failed: not over after {patience_s:.0f} s"
    return {0: "ran", AIM_MISSED: "ran; an aim was missed"}.get(code, f"failed: exit code {code}")


def run_all(names: list[str], command_of: Callable[[str], list[str]], patience_s: float) -> bool:
    """One after the other; says what became of each, and whether none failed."""
    said: dict[str, str] = {}
    for name in names:
        command = command_of(name)
        typer.echo(f"bench: {name}: {' '.join(command[1:])}", err=True)
        began = time.monotonic()
        said[name] = f"{run(command, patience_s)} ({time.monotonic() - began:.0f} s)"
        typer.echo(f"bench: {name} {said[name]}", err=True)
    for name, what in said.items():
        typer.echo(f"bench: {name:14} {what}", err=True)
    return not any(what.startswith("failed") for what in said.values())


def main(
    only: Annotated[list[str] | None, typer.Option(help="one of them; may be given more than once")] = None,
    quick: Annotated[bool, typer.Option(help="a first look: few runs of little; the figures are not kept")] = False,
    tables: Annotated[
        bool, typer.Option(help="nothing is run; README.md's tables are made anew from what is kept")
    ] = False,
    patience_s: Annotated[float, typer.Option(help="one that is not over after so long has failed")] = 7200.0,
    corpus: CorpusOption = "",
) -> None:
    """Run all, or some; exit 1 where one failed, however many others ran. A missed aim is no failure."""
    names, ran = chosen(only), True
    if not tables:
        ran = run_all(names, lambda name: command_of(BENCHES[name], quick, corpus), patience_s)
    if not quick:
        write_tables()
    raise typer.Exit(0 if ran else 1)


if __name__ == "__main__":
    typer.run(main)
