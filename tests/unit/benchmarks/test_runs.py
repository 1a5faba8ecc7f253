"""`scripts/bench`: one benchmark after the other, whatever becomes of those before."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import psutil
import pytest
import typer

from benchmarks.__main__ import BENCHES, arguments, chosen, run, run_all
from benchmarks.results import AIM_MISSED
from tests.wait import wait_until

ENDS = {"well": 0, "missed": AIM_MISSED, "broken": 1, "killed": -9}


def ending(code: int) -> list[str]:
    text = f"import os, signal, sys; os.kill(os.getpid(), 9) if {code} < 0 else sys.exit({code})"
    return [sys.executable, "-c", text]


def test_what_fails_is_told_at_the_end_and_keeps_no_other_from_running(capfd: pytest.CaptureFixture[str]) -> None:
    assert not run_all(list(ENDS), lambda name: ending(ENDS[name]), 60)
    said = capfd.readouterr().err.splitlines()[-len(ENDS) :]
    assert [line.partition(" (")[0].split(None, 2)[1:] for line in said] == [
        ["well", "ran"],
        ["missed", "ran; an aim was missed"],
        ["broken", "failed: exit code 1"],
        ["killed", "failed: exit code -9"],
    ]
    assert run_all(["well", "missed"], lambda name: ending(ENDS[name]), 60), "a missed aim is no failure"


async def test_one_that_hangs_is_ended_with_what_it_began(tmp_path: Path) -> None:
    text = (
        "import os\nchild = os.spawnlp(os.P_NOWAIT, 'sleep', 'sleep', '3603')\n"
        f"with open('{tmp_path}/child', 'w') as file:\n    file.write(str(child))\n"
        "os.wait()"
    )
    quick_to_start = [sys.executable, "-I", "-S", "-c", text]
    assert run(quick_to_start, 2) == "failed: not over after 2 s"
    child = int((tmp_path / "child").read_text())

    def over() -> bool:
        return not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE

    await wait_until(over, "what it began has ended")


def test_a_group_is_chosen_by_how_its_names_begin() -> None:
    assert chosen(["peers"]) == ["peers-search", "peers-board", "peers-faults"]
    assert chosen(["capacity-feed", "cost"]) == ["capacity-feed", "cost"]
    assert chosen(None) == list(BENCHES)
    with pytest.raises(typer.BadParameter, match="unknown: peer;"):
        chosen(["peer"])


@pytest.mark.parametrize("name", BENCHES)
def test_a_benchmark_knows_the_options_that_it_is_given(name: str) -> None:
    bench = BENCHES[name]
    app = typer.Typer()
    app.command()(importlib.import_module(f"benchmarks.{bench.module}").main)
    known = {option for one in typer.main.get_command(app).params for option in one.opts}
    for quick in (True, False):
        given = arguments(bench, quick, "elsewhere")
        assert {one.partition("=")[0] for one in given} <= known
        assert ("--quick" in given) == quick
    assert bench.has_corpus == ("--corpus" in known) or bench.module == "bench_peers"
