from __future__ import annotations

from typing import Any

import pytest

from services.gateway.callers import Caller
from services.gateway.firebase.hashes import hash_of
from services.gateway.firebase.query import Query, Window
from services.gateway.firebase.requests import PUSH_ID, new_push_id, session_of
from services.gateway.firebase.tree import (
    Change,
    PermissionDenied,
    Place,
    difference,
    dig,
    key_of,
    narrowed,
    node,
    place_of,
)
from services.gateway.firebase.wire import BadFrame, Inbox

RECORDED = [  # values, and the hashes that the SDK gave for them
    (
        {
            "v1": {"url": "https://v.pinimg.com/1.mp4", "n": 1, "title": "hello"},
            "v2": {"url": "https://v.pinimg.com/2.mp4", "n": 2},
            "v9": {"url": "x", "n": 9},
        },
        "9jOFOewFpIx50VzBwf6trzfb6cg=",
    ),
    ({"b": {"n": 2}, "c": {"n": 3}}, "TEOr1Dr8OREoJ4dpM0eZrW0l/y0="),
    ({"x": {"a": 1}, "-P74nVqT4tvOkiweTiNN": {"b": 1}}, "y6isPy2OfspU8Z8D1f8zD01C8B8="),
    ({"v": {"x": {"a": 1}, "-P74nVqT4tvOkiweTiNN": {"b": 1}}}, "l+vsQfMyWVMV/dlRwWXI9D2eBoc="),
]


@pytest.mark.parametrize(("value", "hash_"), RECORDED)
def test_hashes_are_those_of_the_sdk(value: Any, hash_: str) -> None:
    assert hash_of(value) == hash_
    assert hash_of(dict(reversed(value.items()))) == hash_


def test_an_array_is_hashed_as_what_it_is_in_the_tree_and_nothing_as_nothing() -> None:
    assert hash_of([{"a": 1}] * 11) == hash_of({str(n): {"a": 1} for n in reversed(range(11))})
    assert hash_of(None) == hash_of({"a": None}) == ""
    assert len({hash_of(value) for value in (1, "1", True, "true", 1.5, {"a": 1})}) == 6
    assert hash_of(1) == hash_of(1.0)


def test_keys_are_in_the_order_of_the_log() -> None:
    assert key_of(42) == "v0000000042"
    assert key_of(9) < key_of(10) < key_of(1_000_000)


def test_the_tree_has_no_nulls_nothing_empty_and_no_key_that_is_a_path() -> None:
    value = {"a": None, "b": {}, "c": [], "d": {"e": None}, "f": [None, 1], "g/h.i": 2, "": 3, "z": 0, "no": False}
    assert node(value) == {"f": [1], "g%2Fh%2Ei": 2, "%": 3, "z": 0, "no": False}
    assert node({"a": {"b": None}}) is None
    assert node(float("nan")) is None


def test_places() -> None:
    assert place_of("/sessions/ab/videos/v1/pin/") == Place("ab", ("videos", "v1", "pin"))
    assert place_of("requests/-P7/session_id") == Place("-P7", ("session_id",), request=True)
    assert place_of("/sessions/a b") is None
    for text in ("", "/", "/sessions/", "/requests", "/users/1"):
        with pytest.raises(PermissionDenied):
            place_of(text)


def test_a_change_is_told_to_who_looks_above_at_and_below_it() -> None:
    change = Change(("videos", "v1"), {"url": "u", "pin": {"id": "1"}})
    assert narrowed(change, ()) == change
    assert narrowed(change, ("videos",)) == Change(("v1",), change.value)
    assert narrowed(change, ("videos", "v1", "pin", "id")) == Change((), "1")
    assert narrowed(change, ("videos", "v2")) is None
    merge = Change(("status",), {"state": "crawling"}, merge=True)
    assert narrowed(merge, ("status",)) == Change((), {"state": "crawling"}, merge=True)
    assert narrowed(merge, ("status", "state")) == Change((), "crawling")
    assert narrowed(merge, ("status", "reason")) is None
    assert dig({"a": ["x", {"b": 1}]}, ("a", "1", "b")) == 1
    assert dig({"a": ["x"]}, ("a", "7")) is dig({"a": 1}, ("a", "b")) is None
    assert difference({"a": 1, "b": 2}, {"b": 3, "c": 4}) == {"a": None, "b": 3, "c": 4}


def test_a_window_of_the_last_ones_lets_go_of_those_before() -> None:
    window = Window(Query(start="b", limit=2, last=True))
    assert [window.take(key) for key in "abcd"] == [(False, None), (True, None), (True, None), (True, "b")]
    window = Window(Query(start="a", start_included=False, end="d", end_included=False, limit=1))
    assert [window.take(key) for key in "abcd"] == [(False, None), (True, None), (False, None), (False, None)]


def test_the_session_of_a_push_is_its_callers_and_the_same_ever_after() -> None:
    push_id = "-P74mYovVbRrJnhK8dfZ"
    assert session_of(Caller(), push_id) == "eb4b33c2895e8e5d16c1ca6df934de57"
    others = {session_of(Caller(owner=owner), push_id) for owner in ("", "mia", "noa")}
    assert len(others) == 3 and session_of(Caller(), new_push_id()) not in others
    assert PUSH_ID.fullmatch(new_push_id())


def test_segments_are_put_together() -> None:
    inbox = Inbox(100)
    taken = [inbox.take(text) for text in ("0", "3", '{"t":"d",', '"d":', "{}}", '{"t":"c","d":{}}')]
    assert taken == [None, None, None, None, {"t": "d", "d": {}}, {"t": "c", "d": {}}]
    for text in ("257", "[]", "{", '{"t":"d"}'):
        with pytest.raises(BadFrame):
            Inbox(100).take(text)
