"""When a gateway is overloaded, by how late its ticks are."""

from __future__ import annotations

from services.gateway.lag import TICK_S, TICKS, Lag


def quiet(lag: Lag, ticks: int) -> None:
    for _ in range(ticks):
        assert lag.came(0.001) == 1


def test_a_single_stall_however_long_is_no_overload() -> None:
    lag = Lag(1.0)  # new: nor is one that comes before anything else
    assert lag.came(3600.0) == 36_001
    assert not lag.overloaded
    quiet(lag, 3)
    assert (lag.overloaded, lag.median_s) == (False, 0.0)


def test_stalls_one_after_the_other_are_overload_and_count_as_what_comes_in_meanwhile_waits() -> None:
    lag = Lag(0.3)
    for _ in range(2):
        lag.came(1.0 - TICK_S)
    assert lag.overloaded is False
    lag.came(1.0 - TICK_S)
    assert lag.overloaded is True
    assert 0.4 <= lag.median_s <= 0.5  # half of a second


def test_short_waits_add_up_to_none() -> None:
    lag = Lag(0.3)
    for _ in range(3 * TICKS):
        lag.came(0.25)
    assert lag.overloaded is False


def test_it_ends_when_half_of_that_is_waited_for_and_not_before() -> None:
    lag = Lag(0.06)
    for late_s, overloaded in ((0.05, False), (0.07, True), (0.05, True), (0.031, True), (0.029, False), (0.05, False)):
        for _ in range(TICKS):
            lag.came(late_s)
        assert lag.overloaded is overloaded, late_s


def test_none_is_ever_too_late_where_the_most_is_0() -> None:
    lag = Lag(0.0)
    for _ in range(TICKS):
        lag.came(5.0)
    assert (lag.overloaded, lag.median_s > 1) == (False, True)
