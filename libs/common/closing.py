"""How a crawl is closed: the end of its fence, the count of its items, and the record of both, in this order."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from libs.common import subjects
from libs.common.bus import Fence
from libs.common.errors import AlreadyExists, Fenced, StreamFull
from libs.common.messages import CrawledRecord, Lease, Reason, decode, encode
from libs.common.session_log import SessionLog


class Ending(NamedTuple):
    """How a crawl ended."""

    reason: Reason
    message: str | None = None


async def close(
    session_log: SessionLog, session: str, ending: Ending, closed_by: str, fence: Fence | None = None
) -> set[str]:
    """Closes the crawl of `session` for ever and returns the items that it emitted; closed, nothing changes any more.

    With a `fence`, only an attempt whose lease is the last one may: raises Fenced. Without one (a cancel, a deadline)
    it is closed whoever works on it, even where the stream has no room for the end: late records do not count.
    """
    bus = session_log.bus
    last = Lease(session=session, attempt="end", reason=ending.reason, message=ending.message, closed_by=closed_by)
    try:
        await bus.publish(subjects.lease_end(session), encode(last), fence=fence, create=fence is None)
    except AlreadyExists:
        pass
    except StreamFull:
        if fence is not None:
            raise
    except Fenced:
        stored = await bus.last(subjects.RAW, subjects.lease_end(session))
        if stored is None or decode(stored.body, Lease).closed_by != closed_by:
            raise  # otherwise it is our own, whose acknowledgement was lost
    emitted, _ = await bus.subjects_under(subjects.RAW, subjects.raw_of(session))
    record = CrawledRecord(reason=ending.reason, items=len(emitted), message=ending.message)
    with suppress(AlreadyExists):
        await session_log.create(session, subjects.CRAWLED, record)
    return {subjects.item_key(subject).item for subject in emitted}
