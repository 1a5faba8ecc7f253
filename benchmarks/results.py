"""What a benchmark found, in one form for all: `results/NAME.json`, and a table of it in README.md.

    figures = [
        figure("bare relay", "p50", "ms", bare_runs, loads=bare_loads),
        figure("pipeline", "p50", "ms", runs, loads=loads, against=bare),  # the ratio is that of the medians
    ]
    save(results("relay", "scripts/bench --only relay", figures, packages=["nats-py"]))

A benchmark is a module `bench_NAME.py` and a line of BENCHES in `__main__.py`, with an option `--quick`: a minute or
two, little of everything, nothing kept; and `--corpus` where it has pins (`seeds.py`). The table's rows are what was
measured (`of`), its columns what of it (`name`, `unit`). It stands in README.md between `<!-- table: NAME -->` and
`<!-- end -->`; `write_tables` makes all anew.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec
import psutil

HERE = Path(__file__).parent
RESULTS = HERE / "results"
README = HERE / "README.md"
ROOT = HERE.parent
AIM_MISSED = 3  # exit code of a benchmark that ran to its end
MARKED = re.compile(r"(<!-- table: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


class Figure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One number of one thing: every run, the median and the spread; or `words` where it is none.

    `ratio` is the median over that of `against`, another `of` with the same name, of the same run of the benchmark.
    """

    of: str
    name: str
    unit: str = ""
    runs: list[float] = []
    loads: list[float] = []  # os.getloadavg()[0] before each run
    median: float | None = None
    least: float | None = None
    most: float | None = None
    against: str = ""
    ratio: float | None = None
    words: str = ""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured."""

    processors: int
    model: str
    memory_gb: float
    system: str
    python: str


class Results(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One table of a benchmark. `detail` is whatever more it wants to keep."""

    benchmark: str
    command: str
    at: str
    commit: str
    machine: Machine
    versions: dict[str, str]
    figures: list[Figure]
    detail: Any = None


def figure(
    of: str,
    name: str,
    unit: str,
    runs: Sequence[float],
    *,
    loads: Sequence[float] = (),
    against: Figure | None = None,
) -> Figure:
    """The median and the spread of `runs`, and the ratio to `against` where its median is not 0."""
    middle = median(runs)
    ratio = middle / against.median if against is not None and against.median else None
    return Figure(
        of=of,
        name=name,
        unit=unit,
        runs=[_short(run) for run in runs],
        loads=[round(load, 2) for load in loads],
        median=_short(middle),
        least=_short(min(runs)),
        most=_short(max(runs)),
        against=against.of if against is not None else "",
        ratio=None if ratio is None else _short(ratio),
    )


class Cell(NamedTuple):
    """One cell of a table of several runs: `path` is where its number is in what each run has told, `a.b.c`."""

    of: str
    name: str
    unit: str
    path: str
    against: str = ""


def gathered(told: Sequence[Mapping[str, Any]], cells: Iterable[Cell], loads: Sequence[float]) -> list[Figure]:
    """The figures of runs that each told the same; a cell that others are held against comes before them."""
    found: dict[tuple[str, str], Figure] = {}
    for cell in cells:
        against = found[cell.against, cell.name] if cell.against else None
        runs = [_at(one, cell.path) for one in told]
        found[cell.of, cell.name] = figure(cell.of, cell.name, cell.unit, runs, loads=loads, against=against)
    return list(found.values())


def _at(told: Mapping[str, Any], path: str) -> float:
    value: Any = told
    for name in path.split("."):
        value = value[name]
    return float(value)


def said(of: str, name: str, words: str) -> Figure:
    """A cell that is no number."""
    return Figure(of=of, name=name, words=words)


def load() -> float:
    """The machine's load now; to be kept before each run."""
    return os.getloadavg()[0]


def results(
    benchmark: str,
    command: str,
    figures: Iterable[Figure],
    *,
    packages: Iterable[str] = (),
    detail: Any = None,
    **more: str,
) -> Results:
    """`packages` are those of this environment whose versions matter; `more` names other versions."""
    return Results(
        benchmark=benchmark,
        command=command,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=_commit(),
        machine=machine(),
        versions={**{name: version(name) for name in packages}, **more},
        figures=list(figures),
        detail=detail,
    )


def machine() -> Machine:
    """This one."""
    return Machine(
        processors=len(os.sched_getaffinity(0)),
        model=_processor(),
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )


def save(found: Results, folder: Path = RESULTS) -> Path:
    """Writes `NAME.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{found.benchmark}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    return path


def kept(name: str, folder: Path = RESULTS) -> Results:
    """What was saved under a name; raises msgspec.ValidationError where it has another form."""
    return msgspec.json.decode((folder / f"{name}.json").read_bytes(), type=Results)


def table(found: Results) -> str:
    """Markdown: `median (least to most), xRATIO` in each cell, and a line that says where and by what command."""
    columns = list(dict.fromkeys((one.name, one.unit) for one in found.figures))
    rows = list(dict.fromkeys(one.of for one in found.figures))
    cells = {(one.of, one.name, one.unit): _cell(one) for one in found.figures}
    lines = ["| | " + " | ".join(f"{name}, {unit}" if unit else name for name, unit in columns) + " |"]
    lines.append("| --- |" + " --- |" * len(columns))
    lines += [f"| {row} | " + " | ".join(cells.get((row, *column), "") for column in columns) + " |" for row in rows]
    return "\n".join([*lines, "", _where(found), ""])


def write_tables(readme: Path = README, folder: Path = RESULTS) -> None:
    """Makes every table of the README anew from what is kept; a table of which nothing is kept stays."""

    def anew(match: re.Match[str]) -> str:
        begin, name, old, end = match.groups()
        known = (folder / f"{name}.json").exists()
        return f"{begin}{table(kept(name, folder)) if known else old}{end}"

    readme.write_text(MARKED.sub(anew, readme.read_text()))


def _cell(one: Figure) -> str:
    if one.median is None:
        return one.words
    spread = "" if one.least == one.most else f" ({_number(one.least)} to {_number(one.most)})"
    ratio = "" if one.ratio is None else f", x{_number(one.ratio)}"
    return f"{_number(one.median)}{spread}{ratio}"


def _where(found: Results) -> str:
    loads = [each for one in found.figures for each in one.loads]
    versions = ", ".join(f"{name} {number}" for name, number in found.versions.items())
    runs = max((len(one.runs) for one in found.figures), default=0)
    against = sorted({one.against for one in found.figures if one.against})
    return " ".join(
        sentence
        for sentence in (
            f"`{found.command}`, {found.at[:10]}, {found.machine.processors} x {found.machine.model},",
            f"{found.machine.memory_gb:g} GB, Python {found.machine.python}{', ' if versions else ''}{versions}.",
            f"Medians of {runs} (least to most)." if runs > 1 else "",
            f"x is the ratio to: {', '.join(against)}." if against else "",
            f"Load before the runs: {min(loads):g} to {max(loads):g}." if loads else "",
        )
        if sentence
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _short(value: float) -> float:
    """Four digits: more would tell of the machine's mood alone."""
    return float(f"{value:.4g}") if abs(value) < 1000 else float(round(value))


def _commit() -> str:
    """The revision that was measured, `-dirty` where more differs from it than the figures that a run writes."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    head = git("rev-parse", "--short=12", "HEAD")
    written = [f":!{path.relative_to(ROOT)}" for path in (RESULTS, README)]
    return (head + "-dirty" * bool(git("status", "--porcelain", "--", ".", *written))) if head else "unknown"


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()
