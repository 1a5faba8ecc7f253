"""The right answer: every unique video of a feed, what the CDN has of it, and the items that carry it."""

from __future__ import annotations

from msgspec import Struct

from .clips import best_file
from .feeds import Feed, search_feed
from .signatures import clip_of, sharded


class ExpectedVideo(Struct, frozen=True, kw_only=True):
    """`id` is the signature, or an embed's address. Paths start with `/videos/`; an embed has none."""

    id: str
    kind: str  # mp4, hls, embed
    path: str | None  # the file that a right resolution finds; the HLS master where there is no file
    hls: str | None
    clip: str | None  # the name of its kind in clips.CLIPS
    items: tuple[str, ...]  # `<pin id>-<index>`, in the feed's order; the first is new, the rest repeat it
    pins: tuple[str, ...]


class Expected(Struct, frozen=True, kw_only=True):
    pins: int
    items: int
    unique: int
    repeats: int
    videos: tuple[ExpectedVideo, ...]

    def by_id(self) -> dict[str, ExpectedVideo]:
        return {video.id: video for video in self.videos}


def expected_results(query: str, scope: str = "videos") -> Expected:
    """What a complete crawl of a search arrives at, faults aside: a fault never changes what there is to be found."""
    return expected_of(search_feed(query, scope))


def expected_of(feed: Feed) -> Expected:
    carriers: dict[str, list[tuple[str, str]]] = {}
    pins = 0
    for pin in feed.catalogue():
        pins += 1
        for index, video in enumerate(pin.videos):
            carriers.setdefault(video, []).append((f"{pin.id}-{index}", pin.id))
    videos = tuple(_expected_video(video, carried) for video, carried in carriers.items())
    items = sum(len(video.items) for video in videos)
    return Expected(pins=pins, items=items, unique=len(videos), repeats=items - len(videos), videos=videos)


def _expected_video(video: str, carried: list[tuple[str, str]]) -> ExpectedVideo:
    items = tuple(item for item, _ in carried)
    pins = tuple(dict.fromkeys(pin for _, pin in carried))
    if video.startswith("https:"):
        return ExpectedVideo(id=video, kind="embed", path=None, hls=None, clip=None, items=items, pins=pins)
    clip = clip_of(video)
    hls = "/videos/" + clip.master.format(sharded(video))
    best = best_file(clip)
    return ExpectedVideo(
        id=video,
        kind="mp4" if best else "hls",
        path="/videos/" + best.format(sharded(video)) if best else hls,
        hls=hls,
        clip=clip.name,
        items=items,
        pins=pins,
    )
