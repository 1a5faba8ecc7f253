"""Cursors of the recorded form, and the slice of a feed that one asks for."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass

from .feeds import Feed
from .signatures import digest

MOST_A_PAGE = 250
USUAL_A_PAGE = 25
END_DASH = "-end-"
END_Y2J = b64encode(b"cbNone;hash|*GQL*").decode()
_BASE_LENGTH = 1400  # in base64 about 1.9 kB, as recorded
_GROWTH = 64  # bytes a page


class BadCursor(ValueError):
    """The cursor is none of ours, or another feed's."""


@dataclass(frozen=True, slots=True)
class Page:
    number: int
    start: int
    entries: tuple[str, ...]
    cursor: str | None  # of the next page; at the end, how the end is said
    own_cursor: str  # with which this very page is asked for again
    first: bool
    middle: bool
    last: bool


def page_of(feed: Feed, bookmarks: object, page_size: int) -> Page:
    """Raises BadCursor."""
    entries = feed.entries()
    start, number = _position(feed, bookmarks)
    size = min(page_size, feed.options.size or page_size)
    if start >= len(entries):
        return Page(number, start, (), end_mark(feed, number), END_DASH, number == 1, number == 1, True)
    own = cursor_of(feed, start, number)
    if _gap_before(feed, number, start):
        return Page(number, start, (), cursor_of(feed, start, number + 1), own, False, False, False)
    stop = min(start + size, len(entries))
    last = stop == len(entries)
    apart = feed.options.end == "empty"  # the end is said by a page of its own, without pins
    return Page(
        number=number,
        start=start,
        entries=entries[start:stop],
        cursor=end_mark(feed, number) if last and not apart else cursor_of(feed, stop, number + 1),
        own_cursor=own,
        first=start == 0,
        middle=start <= len(entries) // 2 < stop,
        last=last,
    )


def cursor_of(feed: Feed, start: int, number: int) -> str:
    state = f"{start}.{number}"
    seal = digest("cursor", feed.tag, feed.pins, feed.part, state).hex()
    length = _BASE_LENGTH + _GROWTH * number
    filler = b64encode(b"".join(digest(seal, n, size=48) for n in range(length // 64 + 1)))[:length].decode()
    return b64encode(f"cbU{filler}|{state}|{seal}|*GQL*".encode()).decode()


def end_mark(feed: Feed, number: int) -> str | None:
    kind = feed.options.end or ("dash", "dash", "dash", "y2j", "y2j", "none")[feed.tag // 4 % 6]
    if kind == "none" and not feed.options.end and number == 1:
        kind = "dash"  # py3-pinterest, unmodified, gives nothing of an only page without a cursor
    return {"dash": END_DASH, "y2j": END_Y2J, "none": None, "empty": END_DASH}[kind]


def _gap_before(feed: Feed, number: int, start: int) -> bool:
    """One feed in four has an empty page, the third, with a live cursor."""
    return feed.tag % 4 == 2 and number == 3 and start > 0


def _position(feed: Feed, bookmarks: object) -> tuple[int, int]:
    cursor = bookmarks[0] if isinstance(bookmarks, list) and bookmarks else bookmarks
    if not cursor:
        return 0, 1
    if cursor in (END_DASH, END_Y2J):
        return len(feed.entries()), 1
    try:
        _, state, seal, _ = b64decode(str(cursor), validate=True).decode().split("|")
        start, number = map(int, state.split("."))
    except ValueError as error:
        raise BadCursor("Invalid bookmark") from error
    if seal != digest("cursor", feed.tag, feed.pins, feed.part, state).hex():
        raise BadCursor("Invalid bookmark")
    return start, number
