"""What a video costs on the hottest paths, in instructions, calls and memory: the same on every machine."""

from __future__ import annotations

import msgspec
import pytest

from tests.hot_paths import LEAST, MOST, PYTHON, Videos, Work, counted, moved, written

WRITTEN = written()
RENEW = "if it is meant: python -m tests.hot_paths --write, with each version of Python in work.toml"
WORK = Work(instructions=1000.0, calls=100.0, kb=2.0, blocks=10.0)


@pytest.fixture(scope="module")
def found() -> dict[str, Work]:
    if PYTHON not in WRITTEN:
        pytest.skip(f"nothing is written down for Python {PYTHON}: python -m tests.hot_paths --write")
    return counted()


@pytest.mark.parametrize("path", WRITTEN["3.11"])
def test_a_hot_path_costs_what_is_written_down(path: str, found: dict[str, Work]) -> None:
    changes = moved(WRITTEN[PYTHON][path], found[path])
    assert changes == {}, RENEW


def test_each_path_is_written_down_for_each_version() -> None:
    paths = set(Videos("any").paths())
    assert {version: set(work) for version, work in WRITTEN.items()} == dict.fromkeys(WRITTEN, paths)
    assert "3.11" in WRITTEN, "the lowest that is supported"


@pytest.mark.parametrize("name", Work.__struct_fields__)
def test_a_twentieth_more_is_seen_and_so_is_a_tenth_less(name: str) -> None:
    was = getattr(WORK, name)
    for ratio, seen in ((MOST + 0.01, True), (LEAST - 0.01, True), (MOST - 0.01, False), (LEAST + 0.01, False)):
        changes = moved(WORK, msgspec.structs.replace(WORK, **{name: was * ratio}))
        assert list(changes) == [name] * seen
