"""Figures of benchmarks, and the tables of them in the README."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks.__main__ import BENCHES
from benchmarks.results import (
    HERE,
    MARKED,
    README,
    RESULTS,
    Cell,
    Figure,
    Results,
    figure,
    gathered,
    kept,
    machine,
    said,
    table,
)

TABLES = {match[2]: match[3] for match in MARKED.finditer(README.read_text())}
COMMON = [
    path.stem
    for path in sorted(RESULTS.glob("*.json"))
    if "benchmark" in msgspec.json.decode(path.read_bytes(), type=dict)
]


@pytest.mark.parametrize("name", [name for name in COMMON if name in TABLES])
def test_a_table_says_what_is_kept(name: str) -> None:
    assert TABLES[name] == table(kept(name)), "run scripts/bench --tables"


@pytest.mark.parametrize("name", COMMON)
def test_a_median_a_spread_and_a_ratio_are_those_of_the_runs(name: str) -> None:
    found = kept(name)
    by_name = {(one.of, one.name): one for one in found.figures}
    for one in found.figures:
        if one.runs:
            again = figure(one.of, one.name, one.unit, one.runs, against=by_name.get((one.against, one.name)))
            assert (one.least, one.most) == (again.least, again.most), one
            assert one.median == pytest.approx(again.median, rel=0.001), one  # kept runs are rounded
            assert one.ratio == (None if again.ratio is None else pytest.approx(again.ratio, rel=0.002)), one
        assert not one.against or (one.against, one.name) in by_name, f"{one.of}: nothing to hold {one.name} against"


def test_every_table_is_of_something_that_is_kept() -> None:
    of_nothing = {name for name, text in TABLES.items() if name not in COMMON and text.strip()}
    assert not of_nothing


def test_every_benchmark_is_a_program_that_is_there() -> None:
    assert all((HERE / f"{bench.module}.py").exists() for bench in BENCHES.values())
    left_out = {path.stem for path in HERE.glob("bench_*.py")} - {bench.module for bench in BENCHES.values()}
    assert not left_out, "scripts/bench does not run them"


def test_runs_that_each_tell_the_same_become_a_table() -> None:
    told = [{"bare": {"p50": n}, "ours": {"ms": {"p50": 3 * n}}, "lost": 0} for n in (2.0, 1.0, 4.0)]
    cells = [Cell("bare", "p50", "ms", "bare.p50"), Cell("ours", "p50", "ms", "ours.ms.p50", "bare")]
    bare, ours, lost = gathered(told, [*cells, Cell("ours", "lost", "", "lost")], [0.5, 0.6, 0.7])
    assert (bare.median, ours.median, ours.ratio, ours.against, lost.median) == (2.0, 6.0, 3.0, "bare", 0.0)
    assert (ours.least, ours.most, ours.loads) == (3.0, 12.0, [0.5, 0.6, 0.7])
    with pytest.raises(KeyError):
        gathered(told, [Cell("ours", "p50", "ms", "ours.p50")], [])


def test_a_ratio_is_that_of_the_medians() -> None:
    bare = figure("bare", "p50", "ms", [3.0, 1.0, 2.0])
    ours = figure("ours", "p50", "ms", [5.0, 3.0, 40.0], against=bare, loads=[0.5])
    assert (ours.median, ours.least, ours.most, ours.ratio, ours.against) == (5.0, 3.0, 40.0, 2.5, "bare")
    assert figure("ours", "lost", "", [4], against=figure("bare", "lost", "", [0])).ratio is None


def test_a_table_has_a_row_for_each_thing_and_a_column_for_each_name() -> None:
    bare = figure("bare", "p50", "ms", [2.0])
    figures: list[Figure] = [
        bare,
        said("bare", "end", "traceback"),
        figure("ours", "p50", "ms", [1234.5, 1], against=bare),
    ]
    found = Results(
        benchmark="x", command="c", at="2026-01-02T", commit="", machine=machine(), versions={"v": "1"}, figures=figures
    )
    lines = table(found).splitlines()
    assert lines[:4] == [
        "| | p50, ms | end |",
        "| --- | --- | --- |",
        "| bare | 2 | traceback |",
        "| ours | 617.8 (1 to 1,234), x308.9 |  |",
    ]
    assert "`c`, 2026-01-02" in lines[5] and "v 1." in lines[5] and "Medians of 2" in lines[5]


def test_the_readme_is_where_it_is_looked_for() -> None:
    assert Path(__file__).parents[3] / "benchmarks" / "README.md" == README
