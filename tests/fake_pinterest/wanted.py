"""The right answer to a search with filters, from what the stand-in itself has: clips, files, its pins' JSON."""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime

from .clips import RUNG_SIZES, Clip, Size, best_file
from .feeds import search_feed
from .origins import REAL
from .pins import search_pin
from .signatures import clip_of, duration_ms, has_captions


def wanted(
    query: str,
    *,
    seconds: tuple[float, float] | None = None,
    height: int = 0,
    orientation: str | None = None,
    captions: bool = False,
    unpromoted: bool = False,
    after: datetime | None = None,
) -> set[str]:
    """The videos (signatures, or an embed's address) that at least one pin shows as they are wanted."""
    feed = search_feed(query)
    found: set[str] = set()
    for pin in feed.catalogue():
        shown = search_pin(pin, feed.topic, REAL)
        if unpromoted and any(shown.get(mark) for mark in ("is_promoted", "promoter", "campaign_id")):
            continue
        if after is not None:
            created = shown.get("created_at")
            if created is None or parsedate_to_datetime(created) < after:
                continue
        for video in pin.videos:
            if video.startswith("https:"):
                if seconds is None and not height and orientation is None and not captions:
                    found.add(video)
                continue
            wide, high = size_given(clip_of(video))
            lies = "portrait" if high > wide else "landscape" if wide > high else "square"
            if (
                (seconds is None or seconds[0] <= duration_ms(video) / 1000 <= seconds[1])
                and high >= height
                and orientation in (None, lies)
                and (has_captions(video) or not captions)
            ):
                found.add(video)
    return found


def size_given(clip: Clip) -> Size:
    """Of the file that a right resolution finds, or of the ladder's largest rung where there is none."""
    best = best_file(clip)
    if best is None:
        return clip.size(clip.rungs[-1])
    return clip.size(next((rung for rung in RUNG_SIZES if f"_{rung}" in best), "720w"))
