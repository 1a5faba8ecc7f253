"""What the records of one session add up to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import structlog

from libs.common import subjects
from libs.common.bus import Stored
from libs.common.errors import MalformedMessage, NewerVersion
from libs.common.messages import (
    FINGERPRINT_BYTES,
    CancelRecord,
    CrawledRecord,
    Message,
    ProgressRecord,
    Reason,
    RepeatRecord,
    RequestRecord,
    UnavailableRecord,
    VideoRecord,
    decode,
    fingerprint,
)

LOST = "lost-"  # begins the name of an item that is known by its number only

log = structlog.get_logger()

_TYPES: dict[str, type[Message]] = {
    subjects.REQUEST: RequestRecord,
    subjects.VIDEO: VideoRecord,
    subjects.REPEAT: RepeatRecord,
    subjects.UNAVAILABLE: UnavailableRecord,
    subjects.PROGRESS: ProgressRecord,
    subjects.CRAWLED: CrawledRecord,
    subjects.CANCEL: CancelRecord,
}


class Record(NamedTuple):
    """One record of a session; `stored_at` is seconds since 1970 by the broker's clock."""

    session: str
    sequence: int
    stored_at: float
    message: Message
    headers: dict[str, str]


def record_of(stored: Stored) -> Record | None:
    """The record in `stored`, or None (and a line in the log) where it is of no kind known here."""
    try:
        if subjects.record_key(stored.subject).kind not in _TYPES:
            log.debug("record of an unknown kind", subject=stored.subject)
            return None
        return record_in(stored)
    except MalformedMessage as error:
        log.error("unreadable record", subject=stored.subject, error=str(error))
        return None


def record_in(stored: Stored) -> Record:
    """The record in `stored`, which is of a known kind. Raises MalformedMessage."""
    key = subjects.record_key(stored.subject)
    return Record(key.session, stored.sequence, stored.stored_at, decode(stored.body, _TYPES[key.kind]), stored.headers)


def unreadable(stored: Stored) -> bool:
    """Whether `stored` can be read by no version: what a newer one has written is not for this one to judge."""
    try:
        record_in(stored)
    except NewerVersion:
        return False
    except MalformedMessage:
        return True
    return False


class SessionState:
    """What the records of one session add up to, applied in order.

    A session is complete at the first record at which `crawled` is known and either every item that it counts has an
    outcome, or the session was cancelled. Later records change nothing.
    """

    def __init__(self) -> None:
        self.request: RequestRecord | None = None
        self.requested_at = 0.0
        self.first_video_at: float | None = None
        self.videos = 0
        self.repeats = 0
        self.unavailable = 0
        self.seen = 0  # repeats of what another session of the scope has given
        self._filtered = 0  # after the crawl
        self.outcomes: set[str] = set()
        self._unavailable: dict[str, bool] = {}  # whether filtered, by item
        self._open: set[bytes] = set()  # the fingerprints of items without an outcome, once they are known
        self._lost = 0  # outcomes of items that are gone, names and all
        self.progress: ProgressRecord | None = None
        self.crawled: CrawledRecord | None = None
        self.cancelled = False
        self.sequence = 0
        self.stored_at = 0.0  # of the last record, by the broker's clock
        self.completed_at: int | None = None  # the sequence of the record that completed it
        self.completed_time = 0.0

    @property
    def complete(self) -> bool:
        """Whether the session is over."""
        return self.completed_at is not None

    @property
    def reason(self) -> Reason | None:
        """Why the session ended, once it is complete."""
        if self.crawled is None:
            return None
        short = self.cancelled and len(self.outcomes) < self.crawled.items
        return Reason.CANCELLED if short else self.crawled.reason

    @property
    def passed_over(self) -> int:
        """How many items the crawl passed over for the session's filters, as far as is known."""
        if self.crawled is not None:
            return self.crawled.filtered
        return self.progress.filtered if self.progress else 0

    @property
    def filtered(self) -> int:
        """How many items are not what the filters ask for, in the crawl and after it."""
        return self.passed_over + self._filtered

    def apply(self, record: Record) -> bool:
        """Adds `record`; returns whether it counted."""
        if self.complete or record.sequence <= self.sequence:
            return False
        self.sequence, self.stored_at = record.sequence, record.stored_at
        counted = self._apply(record)
        crawled = self.crawled
        if crawled is not None and (self.cancelled or crawled.reason is Reason.CANCELLED or self._settled(crawled)):
            self.completed_at = record.sequence
            self.completed_time = record.stored_at
        return counted

    def _apply(self, record: Record) -> bool:
        match record.message:
            case RequestRecord() as request:
                self.request, self.requested_at = request, record.stored_at
            case VideoRecord(item=item):
                if not self._video(item):
                    return False
                if self.first_video_at is None:
                    self.first_video_at = record.stored_at
            case RepeatRecord(item=item, seen=seen):
                if not self._outcome(item):
                    return False
                self.seen += seen
                self.repeats += not seen
            case UnavailableRecord(item=item, filtered=filtered):
                if not self._outcome(item):
                    return False
                self._filtered += filtered
                self.unavailable += not filtered
                self._unavailable[item] = filtered
            case ProgressRecord() as progress:
                self.progress = progress
            case CrawledRecord(fingerprints=known) as crawled:
                self.crawled = crawled
                self._open = {known[at : at + FINGERPRINT_BYTES] for at in range(0, len(known), FINGERPRINT_BYTES)}
                self._open.difference_update(map(fingerprint, self.outcomes))
            case CancelRecord():
                self.cancelled = True
        return True

    def _video(self, item: str) -> bool:
        if item in self._unavailable and self._below_limit():
            # settled twice, differently: the video has been given by this record
            if self._unavailable.pop(item):
                self._filtered -= 1
            else:
                self.unavailable -= 1
        elif not self._outcome(item):
            return False
        self.videos += 1
        return True

    def _below_limit(self) -> bool:
        return self.request is None or self.videos < self.request.request.result_limit

    def _outcome(self, item: str) -> bool:
        if item in self.outcomes:
            return False
        self.outcomes.add(item)
        self._lost += item.startswith(LOST)
        if self._open:
            self._open.discard(fingerprint(item))
        return True

    def without_outcome(self, besides: Iterable[str] = ()) -> int:
        """How many of the items that `crawled` counts have no outcome and are none of `besides`."""
        if self.crawled is None:
            return 0
        if self.crawled.fingerprints:
            return len(self._open - set(map(fingerprint, besides))) - self._lost
        return self.crawled.items - len(self.outcomes.union(besides))

    def _settled(self, crawled: CrawledRecord) -> bool:
        return len(self.outcomes) >= crawled.items and self.without_outcome() <= 0
