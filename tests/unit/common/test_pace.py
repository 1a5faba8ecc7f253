from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.messages import Pace, Reason
from libs.common.pace import (
    HOLD_MOST_S,
    OPEN_FIRST_S,
    OPEN_FROM_REFUSALS,
    OPEN_FROM_SESSIONS,
    OPEN_MOST_S,
    PROBE_S,
    Held,
    Rate,
    Turn,
    answered,
    hold,
    refused,
    take,
)

RATE = Rate(per_second=2.0, burst=4)
AT = 1_000_000.0


def turn(pace: Pace, now: float, rate: Rate = RATE) -> tuple[Pace, float]:
    pace, got = take(pace, now, rate)
    assert isinstance(got, Turn)
    return pace, got.wait_s


def held(pace: Pace, now: float) -> Held:
    after, got = take(pace, now, RATE)
    assert isinstance(got, Held)
    assert after is pace, "whoever may not go changes nothing"
    return got


def opened() -> Pace:
    pace = Pace()
    for n in range(OPEN_FROM_REFUSALS):
        pace = refused(pace, AT, f"session{n % OPEN_FROM_SESSIONS}", Reason.BLOCKED)
    assert pace.opened == 1
    return pace


def test_after_a_pause_a_burst_goes_at_once_and_then_the_rate_holds() -> None:
    pace, waits = Pace(), []
    for _ in range(6):
        pace, wait_s = turn(pace, AT)
        waits.append(wait_s)
    assert waits == pytest.approx([0, 0, 0, 0, 0.5, 1.0])


@given(
    st.lists(st.floats(min_value=0, max_value=5), min_size=1, max_size=60),
    st.floats(min_value=0.1, max_value=50),
    st.integers(min_value=1, max_value=10),
)
def test_no_second_ever_sees_more_than_the_rate_and_a_burst(pauses: list[float], rate: float, burst: int) -> None:
    pace, now, times = Pace(), AT, []
    for pause in pauses:
        now += pause
        pace, wait_s = turn(pace, now, Rate(rate, burst))
        times.append(now + wait_s)
    assert times == sorted(times)
    for n, first in enumerate(times):
        within = sum(first <= at < first + 10 - 1e-6 for at in times[n:])
        assert within <= burst + 10 * rate + 1e-6


def test_nobody_goes_while_the_site_wants_none_and_the_longest_wish_counts() -> None:
    pace = hold(hold(Pace(), AT, 30), AT, 5)
    assert held(pace, AT + 29.5) == Held(Reason.RATE_LIMITED, 0.5)
    turn(pace, AT + 30)
    assert hold(Pace(), AT, 1e9).held_until == AT + HOLD_MOST_S
    assert answered(pace).held_until == pace.held_until, "an answer under way before it changes nothing"


def test_the_circuit_opens_on_refusals_of_several_sessions_in_a_row() -> None:
    pace = opened()
    assert held(pace, AT) == Held(Reason.BLOCKED, OPEN_FIRST_S)


def test_one_session_alone_or_an_answer_between_opens_nothing() -> None:
    pace = Pace()
    for _ in range(OPEN_FROM_REFUSALS * 10):
        pace = refused(pace, AT, "one", Reason.UNREACHABLE)
    assert not pace.opened
    for n in range(OPEN_FROM_REFUSALS * 10):
        pace = refused(answered(pace) if n % 2 else pace, AT, f"s{n}", Reason.UNREACHABLE)
    assert not pace.opened


def test_one_probe_goes_when_it_was_open_long_enough_and_an_answer_closes_it() -> None:
    later = AT + OPEN_FIRST_S
    pace, _ = turn(opened(), later)
    assert held(pace, later).probing
    closed = answered(pace)
    assert not closed.opened
    turn(closed, later)


def test_a_probe_that_is_refused_opens_it_for_twice_as_long_up_to_a_bound() -> None:
    pace, now, spans = opened(), AT, []
    for _ in range(12):
        spans.append(held(pace, now).wait_s)
        now = pace.open_until
        pace, _ = turn(pace, now)
        pace = refused(pace, now, "any", Reason.RATE_LIMITED)
    assert spans[:3] == pytest.approx([OPEN_FIRST_S, OPEN_FIRST_S * 2, OPEN_FIRST_S * 4])
    assert spans[-1] == pytest.approx(OPEN_MOST_S)


def test_a_probe_of_which_nothing_is_heard_is_followed_by_another() -> None:
    later = AT + OPEN_FIRST_S
    pace, _ = turn(opened(), later)
    assert held(pace, later + PROBE_S - 0.1).probing
    turn(pace, later + PROBE_S)


def test_refusals_that_were_under_way_when_it_opened_do_not_count() -> None:
    pace = opened()
    assert refused(pace, AT + 1, "late", Reason.BLOCKED) is pace
