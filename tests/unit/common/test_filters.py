from __future__ import annotations

from typing import Any

import pytest

from libs.common.filters import MEASURED, facts_of, orientation_of, unmet
from libs.common.messages import Filters, Kind, Orientation, Pin, Video

EVERYTHING: dict[str, Any] = {
    "width": 720,
    "height": 1280,
    "duration_ms": 10_000,
    "captions": {"en-us": "https://v1.pinimg.com/x.vtt"},
    "pin": Pin(id="1", created_at="2026-01-31T00:00:00Z"),
}
ALL = Filters(
    min_duration_s=10,
    max_duration_s=10,
    min_height=1280,
    orientation=Orientation.PORTRAIT,
    with_captions=True,
    exclude_promoted=True,
    created_after="2026-01-31T00:00:00+00:00",
)


def video(**changes: Any) -> Video:
    return Video(id="ab", url="u", kind=Kind.MP4, verified=True, **(EVERYTHING | changes))


def test_what_is_exactly_as_asked_passes() -> None:
    assert unmet(ALL, facts_of(video())) is None
    assert unmet(Filters(), facts_of(Video(id="ab", url="u", kind=Kind.EMBED, verified=False))) is None


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"duration_ms": 9_999}, "min_duration_s"),
        ({"duration_ms": 10_001}, "max_duration_s"),
        ({"height": 1279}, "min_height"),
        ({"width": 1280}, "orientation"),
        ({"width": 1281}, "orientation"),
        ({"captions": {}}, "with_captions"),
        ({"pin": Pin(id="1", created_at="2026-01-31T00:00:00Z", promoted=True)}, "exclude_promoted"),
        ({"pin": Pin(id="1", created_at="2026-01-30T23:59:59Z")}, "created_after"),
    ],
)
def test_what_misses_one_filter_by_a_hair_is_refused_for_that_one(changes: dict[str, Any], name: str) -> None:
    assert unmet(ALL, facts_of(video(**changes))) == name


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"duration_ms": None}, "min_duration_s"),
        ({"height": None}, "min_height"),
        ({"width": None}, "orientation"),
        ({"pin": Pin()}, "exclude_promoted"),
        ({"pin": Pin(id="1")}, "created_after"),
    ],
)
def test_what_is_not_known_does_not_pass_unless_it_is_still_to_be_found_out(changes: dict[str, Any], name: str) -> None:
    facts = facts_of(video(**changes))
    assert unmet(ALL, facts) == name
    assert unmet(ALL, facts, MEASURED) == (None if name in MEASURED else name)


def test_a_square_is_as_wide_as_high() -> None:
    sizes = [(5, 5), (5, 6), (6, 5), (0, 5), (None, 5)]
    assert [orientation_of(*size) for size in sizes] == ["square", "portrait", "landscape", None, None]
