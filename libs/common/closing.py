"""How a crawl is closed: the end of its fence, the count of its items, and the record of both, in this order."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from libs.common import lease, metrics, subjects
from libs.common.bus import Fence
from libs.common.errors import AlreadyExists, StreamFull
from libs.common.messages import CrawledRecord, Lease, Reason, fingerprint
from libs.common.session_log import SessionLog

MOST_FINGERPRINTS = 50_000  # 400 kB in the record; the broker takes a megabyte


class Ending(NamedTuple):
    """How a crawl ended."""

    reason: Reason
    message: str | None = None
    filtered: int = 0


async def close(
    session_log: SessionLog, session: str, ending: Ending, closed_by: str, fence: Fence | None = None
) -> set[str]:
    """Closes the crawl of `session` for ever and returns the items that it emitted; closed, nothing changes any more.

    With a `fence`, only an attempt whose lease is the last one may: raises Fenced. Without one (a cancel, a deadline)
    it is closed whoever works on it, even where the stream has no room for the end: late records do not count.
    """
    bus = session_log.bus
    last = Lease(session=session, attempt="end", reason=ending.reason, message=ending.message, closed_by=closed_by)
    ended_at = 0
    try:
        ended_at = await lease.end(bus, last, fence)
    except StreamFull:
        if fence is not None:
            raise
    emitted, _ = await bus.subjects_under(subjects.RAW, subjects.raw_of(session), at_least=ended_at)
    items = subjects.items_in(emitted)
    known = b"".join(sorted(map(fingerprint, items))) if len(items) <= MOST_FINGERPRINTS else b""
    record = CrawledRecord(
        reason=ending.reason,
        items=len(items),
        message=ending.message,
        fingerprints=known,
        filtered=ending.filtered,
    )
    with suppress(AlreadyExists):
        await session_log.create(session, subjects.CRAWLED, record)
        metrics.sessions_ended.add(1, {"reason": str(ending.reason)})
    return items


async def purge(session_log: SessionLog, session: str) -> None:
    """Removes what is still to be done for `session`, wherever it waits. Its log and its fence stay."""
    bus = session_log.bus
    await bus.purge(subjects.SEARCHES, subjects.search(session))
    await bus.purge(subjects.RAW, subjects.raw_of(session))
    await bus.purge(subjects.DIRECT, subjects.direct_of(session))
    for pattern in subjects.suspects_of(session):
        await bus.purge(subjects.QUARANTINE, pattern)
