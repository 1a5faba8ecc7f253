from __future__ import annotations

import itertools
import random

import pytest

from libs.common.messages import (
    CancelRecord,
    CrawledRecord,
    Kind,
    Message,
    ProgressRecord,
    Reason,
    RepeatRecord,
    RequestRecord,
    SearchRequest,
    UnavailableRecord,
    Video,
    VideoRecord,
    fingerprint,
)
from libs.common.session_state import Record, SessionState

REQUEST = RequestRecord(request=SearchRequest(session="s", query="q", result_limit=9, requested_at=0.0))


def video(item: str) -> VideoRecord:
    return VideoRecord(item=item, video=Video(id=item, url="u", kind=Kind.MP4, verified=True))


def fold(*messages: Message) -> SessionState:
    state = SessionState()
    for sequence, message in enumerate(messages, start=1):
        state.apply(Record("s", sequence, float(sequence), message, {}))
    return state


def test_a_session_completes_where_the_count_and_the_outcomes_meet() -> None:
    outcomes = [video("1-0"), RepeatRecord(item="2-0", signature="1-0"), UnavailableRecord(item="3-0", reason="x")]
    for order in itertools.permutations([*outcomes, CrawledRecord(reason=Reason.EXHAUSTED, items=3)]):
        state = fold(REQUEST, *order)
        assert state.completed_at == 5
        assert (state.videos, state.repeats, state.unavailable) == (1, 1, 1)


def test_what_was_seen_before_and_what_is_filtered_are_counted_apart_and_end_a_session_too() -> None:
    seen = RepeatRecord(item="2-0", signature="x", seen=True)
    low = UnavailableRecord(item="3-0", reason="filtered: min_height", filtered=True)
    progress = ProgressRecord(state="crawling", filtered=40)
    state = fold(REQUEST, progress, video("1-0"), seen, low)
    assert (state.passed_over, state.filtered) == (40, 41)
    state = fold(REQUEST, progress, video("1-0"), seen, low, CrawledRecord(reason=Reason.LIMIT, items=3, filtered=44))
    assert state.complete
    assert (state.videos, state.repeats, state.unavailable, state.seen, state.filtered) == (1, 0, 0, 1, 45)


def test_a_filtered_item_that_turns_out_to_be_as_asked_is_a_video_alone() -> None:
    low = UnavailableRecord(item="1-0", reason="filtered: min_height", filtered=True)
    state = fold(REQUEST, low, video("1-0"), CrawledRecord(reason=Reason.EXHAUSTED, items=1))
    assert (state.videos, state.unavailable, state.filtered) == (1, 0, 0)


def test_a_session_with_no_items_completes_when_the_crawl_is_over() -> None:
    assert fold(REQUEST, CrawledRecord(reason=Reason.EXHAUSTED, items=0)).completed_at == 2


def test_an_item_has_one_outcome_the_first() -> None:
    state = fold(REQUEST, video("1-0"), UnavailableRecord(item="1-0", reason="deadline"))
    assert (state.videos, state.unavailable) == (1, 0)


def test_a_cancelled_session_waits_for_no_outcome_and_nothing_counts_after_it() -> None:
    state = fold(REQUEST, CancelRecord(requested_at=0.0), CrawledRecord(reason=Reason.CANCELLED, items=7), video("1-0"))
    assert (state.completed_at, state.videos) == (3, 0)


def test_times_are_the_brokers() -> None:
    state = fold(REQUEST, ProgressRecord(state="crawling"), video("1-0"), video("2-0"))
    assert (state.requested_at, state.first_video_at) == (1.0, 3.0)


@pytest.mark.parametrize("seed", range(5))
def test_records_seen_twice_or_late_change_nothing(seed: int) -> None:
    rng = random.Random(seed)
    messages: list[Message] = [REQUEST, *(video(f"{n}-0") for n in range(20))]
    records = [Record("s", n, float(n), message, {}) for n, message in enumerate(messages, start=1)]
    once, again = SessionState(), SessionState()
    for record in records:
        once.apply(record)
        again.apply(record)
        again.apply(rng.choice(records[: record.sequence]))
    assert (once.videos, once.sequence) == (again.videos, again.sequence)


def test_a_cancel_while_the_last_outcomes_are_awaited_completes_the_session() -> None:
    state = fold(REQUEST, video("1-0"), CrawledRecord(reason=Reason.LIMIT, items=3), CancelRecord(requested_at=0.0))
    assert (state.completed_at, state.reason, state.videos) == (4, Reason.CANCELLED, 1)


def test_a_session_that_was_complete_stays_as_it_was_when_it_is_cancelled() -> None:
    state = fold(REQUEST, video("1-0"), CrawledRecord(reason=Reason.LIMIT, items=1), CancelRecord(requested_at=0.0))
    assert (state.completed_at, state.reason) == (3, Reason.LIMIT)


def test_an_item_settled_as_unavailable_and_then_as_a_video_is_a_video() -> None:
    state = fold(REQUEST, UnavailableRecord(item="1-0", reason="x"), video("1-0"))
    assert (state.videos, state.unavailable, state.outcomes) == (1, 0, {"1-0"})


def crawled(*items: str) -> CrawledRecord:
    known = b"".join(sorted(map(fingerprint, items)))
    return CrawledRecord(reason=Reason.EXHAUSTED, items=len(items), fingerprints=known)


def test_outcomes_of_what_the_crawl_never_emitted_do_not_end_a_session() -> None:
    foreign = [UnavailableRecord(item="9-9", reason="x"), UnavailableRecord(item="9-8", reason="x")]
    for order in itertools.permutations([*foreign, crawled("1-0", "2-0"), video("1-0")]):
        state = fold(REQUEST, *order)
        assert not state.complete
        assert state.apply(Record("s", 6, 6.0, video("2-0"), {}))
        assert (state.completed_at, state.videos) == (6, 2)


def test_items_whose_messages_are_gone_end_a_session_by_their_number() -> None:
    state = fold(REQUEST, video("1-0"), crawled("1-0", "2-0", "3-0"))
    assert state.without_outcome() == 2
    assert state.without_outcome(besides=["3-0"]) == 1
    for sequence, item in enumerate(("3-0", "lost-0"), start=4):
        state.apply(Record("s", sequence, 0.0, UnavailableRecord(item=item, reason="deadline"), {}))
    assert state.completed_at == 5
