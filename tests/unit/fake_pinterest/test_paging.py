from base64 import b64decode

import pytest

from tests.fake_pinterest.feeds import search_feed
from tests.fake_pinterest.paging import END_DASH, END_Y2J, BadCursor, Page, cursor_of, page_of

PLAIN = next(query for query in (f"glaze seed:{n} pins:300 end:dash" for n in range(99)) if search_feed(query).tag % 2)


def walk(query: str, size: int = 25) -> list[Page]:
    feed, pages = search_feed(query), []
    cursor = None
    while True:
        pages.append(page_of(feed, [cursor] if cursor else None, size))
        cursor = pages[-1].cursor
        if cursor is None or cursor in (END_DASH, END_Y2J):
            return pages


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [1, 25, 250])
def test_the_pages_make_up_the_feed(seed: int, size: int) -> None:
    query = f"glaze seed:{seed} pins:90"
    walked = tuple(entry for page in walk(query, size) for entry in page.entries)
    assert walked == search_feed(query).entries()


def test_cursors_are_opaque_long_and_grow() -> None:
    cursors = [page.cursor or "" for page in walk(PLAIN)][:-1]
    lengths = [len(cursor) for cursor in cursors]
    assert lengths == sorted(set(lengths))
    assert 1_800 < lengths[0] < 2_400
    for cursor in cursors:
        assert b64decode(cursor, validate=True).startswith(b"cb")
        assert not cursor.startswith("Y2JOb25lO")


@pytest.mark.parametrize(("end", "mark"), [("dash", "-end-"), ("y2j", END_Y2J), ("none", None)])
def test_the_end_is_said_in_three_ways(end: str, mark: str | None) -> None:
    assert walk(f"glaze end:{end}")[-1].cursor == mark
    assert END_Y2J.startswith("Y2JOb25lO")


def test_after_the_end_comes_nothing() -> None:
    for mark in (END_DASH, END_Y2J):
        assert page_of(search_feed("glaze"), [mark], 25).entries == ()


def test_some_feeds_have_an_empty_page_with_a_live_cursor() -> None:
    empties = [[n for n, page in enumerate(walk(f"glaze seed:{seed}"), 1) if not page.entries] for seed in range(24)]
    assert [3] in empties
    assert [] in empties


def test_pages_know_whether_they_are_first_middle_and_last() -> None:
    pages = walk(PLAIN)
    assert [page.first for page in pages] == [True] + [False] * (len(pages) - 1)
    assert [page.last for page in pages] == [False] * (len(pages) - 1) + [True]
    assert sum(page.middle for page in pages) == 1


def test_a_page_is_no_longer_than_the_cap() -> None:
    assert max(len(page.entries) for page in walk(f"{PLAIN} size:10")) == 10


@pytest.mark.parametrize("cursor", ["nonsense", "Y2I=", "ä", cursor_of(search_feed("kiln"), 25, 2)])
def test_a_cursor_of_another_feed_is_refused(cursor: str) -> None:
    with pytest.raises(BadCursor):
        page_of(search_feed("glaze"), [cursor], 25)
