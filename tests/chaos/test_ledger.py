"""What the account says of sessions that went wrong in one way each."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from libs.common.frames import Completed, Summary
from libs.common.messages import (
    CrawledRecord,
    Kind,
    Message,
    Reason,
    RepeatRecord,
    RequestRecord,
    SearchRequest,
    UnavailableRecord,
    Video,
    VideoRecord,
)
from libs.common.session_state import Record
from tests.chaos.ledger import Account, ledger
from tests.chaos.sessions import Given, Session, Wish

QUERY = "ceramic glaze pins:40 seed:ledger"
Case = tuple[Session, list[Message]]
Change = Callable[[Session, list[Message]], object]


def perfect() -> Case:
    """A session that found all there was, and its records."""
    session = Session(Wish(1, QUERY, 1000, "whole", True, 1.0, 1.0), session_id="s")
    request = SearchRequest(session="s", query=QUERY, result_limit=1000, requested_at=0.0, deadline_s=600.0)
    messages: list[Message] = [RequestRecord(request=request)]
    for one in session.expected.videos:
        video = Video(id=one.id, url="u", kind=Kind.MP4, verified=True)
        messages.append(VideoRecord(item=one.items[0], video=video))
        session.given.append(Given(len(messages), one.id))
        messages += [RepeatRecord(item=item, signature=one.id) for item in one.items[1:]]
    messages.append(CrawledRecord(reason=Reason.EXHAUSTED, items=session.expected.items))
    return session, messages


def account(session: Session, messages: list[Message]) -> Account:
    records = [Record("s", n, 0.0, message, {}) for n, message in enumerate(messages, 1)]
    if not session.completed:
        found = len(session.given)
        summary = Summary(found=found, repeats=0, unavailable=0, items=session.expected.items)
        completed = Completed(session_id="s", sequence=len(messages), reason=Reason.EXHAUSTED, summary=summary)
        session.completed.append(completed)
    return ledger([session], {"s": records}).accounts[0]


def test_a_perfect_session_has_no_faults() -> None:
    session, messages = perfect()
    found = account(session, messages)
    assert found.faults == []
    assert found.videos["accounted for"] == session.expected.unique
    assert found.items["accounted for"] == session.expected.items


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda session, _: session.given.pop(), "1 videos lost"),
        (lambda session, _: session.given.append(session.given[-1]), "1 videos repeated"),
        (lambda session, _: session.given.append(Given(999, "f" * 32)), "1 videos unexpected"),
        (lambda _, messages: messages.pop(1), "1 items lost"),
        (lambda _, messages: messages.insert(2, messages[1]), "1 items repeated"),
        (
            lambda _, messages: messages.insert(2, RepeatRecord(item="1-0", signature="f" * 32)),
            "1 items unexpected",
        ),
        (
            lambda _, messages: messages.insert(2, UnavailableRecord(item="1-0", reason="deadline")),
            "1 items unavailable: deadline",
        ),
        (lambda _, messages: messages.pop(), "not complete in the log"),
        (lambda _, messages: messages.append(messages[-1]), "crawled more than once"),
        (lambda session, _: session.complaints.append("sequence 3 after 4"), "sequence 3 after 4"),
    ],
)
def test_each_way_of_going_wrong_is_seen(change: Change, fault: str) -> None:
    session, messages = perfect()
    change(session, messages)
    assert fault in account(session, messages).faults


def test_a_second_completion_is_seen() -> None:
    session, messages = perfect()
    account(session, messages)
    session.completed *= 2
    assert "completed 2 times for its client" in account(session, messages).faults


def test_more_than_the_limit_is_seen() -> None:
    session, messages = perfect()
    session.wish = session.wish._replace(limit=5, kind="limited")
    surplus = session.expected.unique - 5
    assert f"{surplus} videos unexpected" in account(session, messages).faults
