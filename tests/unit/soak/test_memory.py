"""The soak's judgement: of a run's windows and of what grew between them."""

from __future__ import annotations

import pytest

from tests.soak.memory import EVERY_S, Memory, windows


def grown(levels: list[float], minutes: float) -> dict[str, tuple[float, float, bool]]:
    memory = Memory()
    memory.samples = [(number * EVERY_S, {"chromium": mb}) for number, mb in enumerate(levels)]
    return {part.part: (part.warm_mb, part.last_mb, part.flat) for part in memory.growth(minutes * 60)}


def test_the_windows_of_half_an_hour_are_the_minutes_10_to_20_and_20_to_30() -> None:
    assert windows(30 * 60) == ((600, 1200), (1200, 1800))


def test_the_windows_of_a_longer_run_stay_as_long_and_of_a_shorter_one_are_a_third() -> None:
    assert windows(60 * 60) == ((600, 1200), (3000, 3600))
    assert windows(6 * 60) == ((120, 240), (240, 360))


def test_a_level_that_rises_by_more_than_a_tenth_is_not_flat() -> None:
    assert grown([100.0] * 24 + [109.0] * 13, 6)["chromium"] == (100, 109, True)
    assert grown([100.0] * 24 + [111.0] * 13, 6)["chromium"] == (100, 111, False)


def test_the_teeth_of_a_saw_are_no_growth() -> None:
    assert grown([400.0, 450.0, 500.0, 900.0] * 46, 30)["chromium"][2]


def test_of_a_part_that_was_never_seen_nothing_good_is_said() -> None:
    assert grown([100.0] * 37, 6)["dedup"] == (0, 0, False)


@pytest.mark.parametrize("minutes", [0.5, 30.0])
def test_the_last_window_ends_with_the_run(minutes: float) -> None:
    assert windows(minutes * 60).last[1] == minutes * 60
