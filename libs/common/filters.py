"""Whether a video is what a session's filters ask for. Pure.

A filter is a promise about every result, so what is not known does not pass, unless it is still to be found out.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from libs.common.messages import Filters, Orientation, Video

MEASURED = frozenset({"min_duration_s", "max_duration_s", "min_height", "orientation"})  # found out by the transformer


class Facts(NamedTuple):
    """What is known of a video; None: not known. `height` in pixels, `created_at` ISO 8601."""

    duration_ms: int | None
    height: int | None
    orientation: Orientation | None
    captions: bool
    promoted: bool | None
    created_at: str | None


def facts_of(video: Video) -> Facts:
    """What is known of a resolved video: the most there will ever be."""
    return Facts(
        duration_ms=video.duration_ms,
        height=video.height,
        orientation=orientation_of(video.width, video.height),
        captions=bool(video.captions),
        promoted=video.pin.promoted if video.pin.id else None,
        created_at=video.pin.created_at,
    )


def orientation_of(width: int | None, height: int | None) -> Orientation | None:
    """Which way a picture of that size lies."""
    if not width or not height:
        return None
    if width == height:
        return Orientation.SQUARE
    return Orientation.PORTRAIT if height > width else Orientation.LANDSCAPE


def unmet(filters: Filters, facts: Facts, still_open: frozenset[str] = frozenset()) -> str | None:
    """The first filter that a video does not pass, by name, or None; what is not known of `still_open` passes."""
    for name, passes in _verdicts(filters, facts):
        if passes is False or (passes is None and name not in still_open):
            return name
    return None


def _verdicts(filters: Filters, facts: Facts) -> Iterator[tuple[str, bool | None]]:
    duration_ms, height = facts.duration_ms, facts.height
    if filters.min_duration_s is not None:
        yield "min_duration_s", None if duration_ms is None else duration_ms >= filters.min_duration_s * 1000
    if filters.max_duration_s is not None:
        yield "max_duration_s", None if duration_ms is None else duration_ms <= filters.max_duration_s * 1000
    if filters.min_height is not None:
        yield "min_height", None if height is None else height >= filters.min_height
    if filters.orientation is not None:
        yield "orientation", None if facts.orientation is None else facts.orientation == filters.orientation
    if filters.with_captions:
        yield "with_captions", facts.captions
    if filters.exclude_promoted:
        yield "exclude_promoted", None if facts.promoted is None else not facts.promoted
    if filters.created_after is not None:
        created_at = facts.created_at
        after = datetime.fromisoformat(filters.created_after)
        yield "created_after", None if created_at is None else datetime.fromisoformat(created_at) >= after
