"""Whether a page of results that came without a cursor is the last one, or has lost it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from libs.common.messages import Reason
from services.crawler import pinterest
from services.crawler.envelope import Envelope
from services.crawler.failure import Refused

Asked = Callable[[str | None, int], Awaitable[Envelope]]  # the page at a cursor, with so many pins at most


async def is_last(asked: Asked, bookmark: str | None, envelope: Envelope, fullest: int) -> bool:
    """Whether `envelope`, the page at `bookmark`, without a cursor, is the last. Raises Refused where none can tell."""
    known = envelope.ids
    while True:
        at, page = bookmark, envelope
        cursor = await way_on(lambda size, at=at: asked(at, size), page, fullest)  # type: ignore[misc]
        if cursor is None:
            return True
        for _ in range(1 + pinterest.EMPTY_PAGES):
            bookmark, envelope = cursor, await asked(cursor, pinterest.PAGE_SIZE)
            if envelope.ids - known:
                return False
            cursor = envelope.bookmark
            if cursor is None:
                break
            if pinterest.is_end(cursor):
                return True
        if cursor is not None or len(envelope.ids) >= len(page.ids):
            return False


async def way_on(asked: Callable[[int], Awaitable[Envelope]], envelope: Envelope, fullest: int) -> str | None:
    """The cursor with which the search goes on behind `envelope`, which has none; None where it was the last page.

    `asked` gives the same page with so many pins at most. Asked for one pin fewer, a site that has not lost its cursors
    gives one, because that pin is still to come; what is behind it, if anything, follows. Where the site keeps to
    its own page size nothing can be told so, and a page as full as `fullest`, the fullest so far, is taken for cut off.
    Raises Refused where the cursor is lost.
    """
    size = len(envelope.ids)
    if size < 2:
        return None
    shorter = await asked(size - 1)
    if shorter.bookmark is not None:
        return None if pinterest.is_end(shorter.bookmark) else shorter.bookmark
    if len(shorter.ids) < size or size >= (fullest or pinterest.USUAL_PAGE_SIZE):
        raise Refused(Reason.UPSTREAM_CHANGED, pinterest.LOST_CURSOR, transient=True)
    return None
