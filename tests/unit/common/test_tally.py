from __future__ import annotations

import asyncio

import pytest

from libs.common.errors import BrokerUnavailable, SessionCancelled
from libs.common.tally import MOST_CHARACTERS, Tally, failure_of, told

SESSION = "0123456789abcdef0123456789abcdef"


def test_what_is_done_and_what_fails_is_counted() -> None:
    tally = Tally()
    with tally.working():
        assert tally.busy == 1
    with pytest.raises(BrokerUnavailable), tally.working():
        raise BrokerUnavailable("no answer")
    assert (tally.done, tally.failures, tally.busy) == (2, 1, 0)
    assert tally.took_ns > 0
    assert tally.last_failure is not None and tally.last_failure.message == "no answer"


def test_what_is_expected_is_no_failure() -> None:
    tally = Tally()
    with pytest.raises(SessionCancelled), tally.working(SessionCancelled):
        raise SessionCancelled
    assert (tally.done, tally.failures, tally.last_failure) == (1, 0, None)


def test_what_is_cancelled_is_not_done() -> None:
    tally = Tally()
    with pytest.raises(asyncio.CancelledError), tally.working():
        raise asyncio.CancelledError
    assert (tally.done, tally.failures, tally.busy) == (0, 0, 0)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"no acknowledgement for media.raw.{SESSION}.77-0", "no acknowledgement for media.raw.….77-0"),
        (f"key ps_0123456789abcdef_{'a' * 43}", "key ps_0123456789abcdef_…"),
        ("proxy http://user:secret@10.0.0.1:3128 refuses", "proxy http://10.0.0.1:3128 refuses"),
        ("one\n  two", "one two"),
        ("x" * 1000, "x" * (MOST_CHARACTERS - 1) + "…"),
    ],
)
def test_a_failure_shows_no_secret_and_nobodys_session(said: str, shown: str) -> None:
    assert told(said).message == shown


def test_an_error_is_told_with_its_kind_unless_its_sentence_is_ours() -> None:
    assert failure_of(ValueError("7 is no name")).message == "ValueError: 7 is no name"
    assert failure_of(BrokerUnavailable("no answer"), "cannot pull").message == "cannot pull: no answer"
