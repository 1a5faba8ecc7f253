"""The account: what became of every session, video and item, by its client and by the session log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from libs.common import subjects
from libs.common.bus import Bus
from libs.common.messages import CrawledRecord, Reason, RepeatRecord, UnavailableRecord, VideoRecord
from libs.common.session_state import Record, SessionState, record_of
from tests.chaos.sessions import Session

BATCH = 512
CLASSES = ("accounted for", "lost", "repeated", "unexpected")


@dataclass
class Account:
    """Of one session. What is wrong with it is in `faults`, in words."""

    session: Session
    faults: list[str] = field(default_factory=list)
    videos: Counter[str] = field(default_factory=Counter)  # by class
    items: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)
    records: Counter[str] = field(default_factory=Counter)  # by kind


@dataclass
class Ledger:
    """Of a run."""

    accounts: list[Account]
    orphans: int  # sessions in the log whose client never heard of them
    open_orphans: int
    unverified: int  # videos

    @property
    def wrong(self) -> list[Account]:
        """The sessions with which something is wrong."""
        return [account for account in self.accounts if account.faults]

    def totals(self, what: str) -> Counter[str]:
        """Of `videos` or `items`, by class."""
        total: Counter[str] = Counter()
        for account in self.accounts:
            total.update(getattr(account, what))
        return total


async def whole_log(bus: Bus) -> dict[str, list[Record]]:
    """Every record of every session, in order."""
    logs: dict[str, list[Record]] = {}
    after = 0
    while batch := await bus.read(subjects.RESULTS, subjects.ALL_RECORDS, after + 1, BATCH):
        after = batch[-1].sequence
        for stored in batch:
            if (record := record_of(stored)) is not None:
                logs.setdefault(record.session, []).append(record)
    return logs


def ledger(sessions: Iterable[Session], logs: dict[str, list[Record]]) -> Ledger:
    """Holds what clients saw, and the log, against what there was to be found."""
    begun = [session for session in sessions if session.session_id is not None or session.complaints]
    accounts = [_account(session, logs.get(session.session_id or "", [])) for session in begun]
    known = {session.session_id for session in begun}
    orphans = [records for session_id, records in logs.items() if session_id not in known]
    videos = [record.message for records in logs.values() for record in records]
    return Ledger(
        accounts=accounts,
        orphans=len(orphans),
        open_orphans=sum(not _state(records).complete for records in orphans),
        unverified=sum(isinstance(one, VideoRecord) and not one.video.verified for one in videos),
    )


def _state(records: list[Record]) -> SessionState:
    state = SessionState()
    for record in records:
        state.apply(record)
    return state


def _account(session: Session, records: list[Record]) -> Account:
    account = Account(session, faults=list(dict.fromkeys(session.complaints)))
    account.records.update(type(record.message).__name__.removesuffix("Record").lower() for record in records)
    _of_completion(account, _state(records), records)
    _of_videos(account)
    _of_items(account, records)
    for what in ("videos", "items"):
        for class_, many in getattr(account, what).items():
            if class_ != CLASSES[0] and many:
                account.faults.append(f"{many} {what} {class_}")
    return account


def _of_completion(account: Account, state: SessionState, records: list[Record]) -> None:
    session = account.session
    completions = session.completed
    if len(completions) != 1:
        account.faults.append(f"completed {len(completions)} times for its client" if completions else "not completed")
    if not state.complete:
        account.faults.append("not complete in the log")
    if sum(isinstance(record.message, CrawledRecord) for record in records) > 1:
        account.faults.append("crawled more than once")
    for completed in completions[:1]:
        if completed.reason not in session.may_end_by:
            account.faults.append(f"ended by {completed.reason}: {completed.message}")
        if completed.sequence != state.completed_at:
            account.faults.append(f"completed at {completed.sequence}, by the log at {state.completed_at}")
        if completed.summary.found != len(session.given):
            account.faults.append(f"{len(session.given)} videos, of {completed.summary.found} by its summary")


def _of_videos(account: Account) -> None:
    """As the client saw them."""
    session = account.session
    wanted = {video.id for video in session.expected.videos}
    given = Counter(one.key for one in session.given)
    right = wanted & set(given)
    surplus = max(0, len(right) - session.wish.limit)
    account.videos.update(
        {
            "accounted for": len(right) - surplus,
            "repeated": sum(given.values()) - len(given),
            "unexpected": len(set(given) - wanted) + surplus,
        }
    )
    if session.wish.kind != "cancelled" or any(one.reason is not Reason.CANCELLED for one in session.completed):
        account.videos["lost"] = max(0, min(len(wanted), session.wish.limit) - len(right))
        if session.wish.limit >= len(wanted):
            account.missing = sorted(wanted - right)


def _of_items(account: Account, records: list[Record]) -> None:
    """As the log has them, up to the record that completed the session: each item has one outcome."""
    session = account.session
    last = session.completed[0].sequence if session.completed else 0
    outcomes: dict[str, list[str]] = {}
    for record in records:
        match record.message:
            case VideoRecord(item=item) | RepeatRecord(item=item) | UnavailableRecord(item=item):
                if not last or record.sequence <= last:
                    outcomes.setdefault(item, []).append(type(record.message).__name__)
    expected = {item for video in session.expected.videos for item in video.items}
    given_up = {item for item, kinds in outcomes.items() if "UnavailableRecord" in kinds}
    if given_up:
        reasons = {one.message.reason for one in records if isinstance(one.message, UnavailableRecord)}
        account.faults.append(f"{len(given_up)} items unavailable: {', '.join(sorted(reasons))[:300]}")
    account.items.update(
        {
            "accounted for": len(expected & set(outcomes)),
            "repeated": sum(len(kinds) > 1 for kinds in outcomes.values()),
            "unexpected": len(set(outcomes) - expected),
        }
    )
    if session.wish.kind == "whole":
        lost = expected - set(outcomes)
        account.items["lost"] = len(lost)
        account.missing += sorted(lost)
