"""The shape that the extractor knows of the site's answers, and how what came differs from it. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Any

import msgspec

from services.crawler.envelope import read_envelope
from services.crawler.extract import as_pin, extract
from services.crawler.pinterest import USUAL_PAGE_SIZE
from services.crawler.value import DEPTH

MOST_SHOWN = 12  # fields named in the line; all are in the JSON


class Weight(Enum):
    """What it means that a field is in none of its parents. The value is how many of them that takes."""

    ROOT = 1  # nothing can be read without it, and every answer has it
    ESSENTIAL = 3  # no video can be read without it
    COMMON = 20  # in most pins, with a value in most
    OPTIONAL = 10**9  # its absence says nothing


_VIDEO = {
    "": Weight.OPTIONAL,
    ".id": Weight.OPTIONAL,
    ".video_list": Weight.ESSENTIAL,
    ".video_urls": Weight.OPTIONAL,
    ".duration": Weight.OPTIONAL,
    ".video_list.*": Weight.ESSENTIAL,
    ".video_list.*.url": Weight.ESSENTIAL,
    ".video_list.*.width": Weight.COMMON,
    ".video_list.*.height": Weight.COMMON,
    ".video_list.*.duration": Weight.COMMON,
    ".video_list.*.thumbnail": Weight.COMMON,
    ".video_list.*.captions_urls": Weight.OPTIONAL,
    ".video_list.*.captions_vtt_url": Weight.OPTIONAL,
}
_PLACES = (
    "pin.videos",
    "pin.story_pin_data.pages[].blocks[].video",
    "pin.story_pin_data.pages[].video",
    "pin.carousel_data.carousel_slots[].videos",
)
_COMMON = (
    *("type", "node_id", "title", "grid_title", "description", "created_at", "dominant_color", "link", "images"),
    *("image_signature", "pinner", "board", "pinner.username", "pinner.full_name", "board.name", "board.url"),
)
_OPTIONAL = (
    *("is_video", "reaction_counts", "rich_summary", "is_promoted", "domain", "repin_count", "comment_count"),
    *("native_creator", "auto_alt_text", "closeup_description", "story_pin_data", "carousel_data", "embed"),
    *("embed.type", "embed.width", "embed.height", "story_pin_data.id", "story_pin_data.type"),
    *("story_pin_data.page_count", "story_pin_data.pages_preview", "story_pin_data.metadata", "carousel_data.id"),
    *("carousel_data.index", "ad_match_reason", "aggregated_pin_data", "alt_text", "attribution", "campaign_id"),
    *("digital_media_source_type", "link_utm_applicable_and_replaced", "music_attributions", "product_pin_data"),
    *("promoted_lead_form", "promoter", "rich_metadata", "shopping_flags", "sponsorship", "story_pin_data_id"),
    *("video_status", "video_status_message", "has_required_attribution_provider", "is_downstream_promotion"),
    *("is_eligible_for_pdp", "is_eligible_for_web_closeup", "is_oos_product", "is_repin", "is_stale_product"),
    *("is_uploaded", "is_whitelisted_for_tried_it", "promoted_is_lead_ad", "promoted_is_removable"),
    *("should_open_in_stream", "method", "price_value", "tracking_params", "grid_badge", "is_playable"),
)
_SAID = (  # the last page has no bookmark; where a full first page has none is judged apart
    *("status", "code", "message", "endpoint_name", "http_status", "x_pinterest_sli_endpoint_name", "error"),
    "bookmark",
)
KNOWN: dict[str, Weight] = {
    "resource_response": Weight.ROOT,
    "resource_response.data": Weight.ROOT,
    "resource_response.data.results": Weight.ROOT,
    "resource_response.data.nag": Weight.OPTIONAL,
    **dict.fromkeys((f"resource_response.{name}" for name in _SAID), Weight.OPTIONAL),
    **dict.fromkeys(("resource", "client_context", "request_identifier"), Weight.OPTIONAL),
    "pin.id": Weight.ESSENTIAL,
    **{f"pin.{name}": Weight.COMMON for name in _COMMON},
    **{f"pin.{name}": Weight.OPTIONAL for name in _OPTIONAL},
    "pin.story_pin_data.pages": Weight.ESSENTIAL,
    "pin.story_pin_data.pages[].blocks": Weight.COMMON,
    "pin.carousel_data.carousel_slots": Weight.ESSENTIAL,
    "pin.embed.src": Weight.ESSENTIAL,
    **{place + inner: weight for place in _PLACES for inner, weight in _VIDEO.items()},
    "pin.videos": Weight.COMMON,  # a search for videos gives pictures too, but never twenty in a row
}
_WATCHED = ("", "resource_response", "resource_response.data", "pin", *_PLACES, "pin.story_pin_data")  # for new fields
_VALUED = frozenset(path for path, weight in KNOWN.items() if weight in (Weight.ROOT, Weight.ESSENTIAL)) | {
    "pin.videos"
}
_PARENTS = {path[: match.start()] for path in KNOWN for match in re.finditer(r"\.|\[\]", path)}
_VARIANT = re.compile(r"V_(HLSV4|HLSV3_WEB|HLSV3_MOBILE|HLS_HEVC|DASH_HEVC|\d{3,4}P|EXP\d|HEVC_MP4_T\d_V2)")
_COUNT = re.compile(r" \(\d+\)$")


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of the shape.

    `vanished` are known fields that should have been there, `new` ones that are not known, `not_seen` known ones whose
    absence says nothing; `strange` says in words what the extractor did not understand.
    """

    pages: int = 0
    pins: int = 0
    videos: int = 0
    vanished: list[str] = []
    new: list[str] = []
    not_seen: list[str] = []
    strange: list[str] = []

    @property
    def ok(self) -> bool:
        """Whether all is where the extractor looks for it; new fields besides do no harm."""
        return not self.vanished and not self.strange

    @property
    def line(self) -> str:
        """All of it in one line."""
        parts = [
            ("vanished", self.vanished),
            ("not understood", self.strange),
            ("new", self.new),
            ("not seen, which says nothing", [] if self.vanished else self.not_seen),
        ]
        told = "; ".join(f"{what}: {_shown(names)}" for what, names in parts if names)
        seen = f"{self.pins} pins and {self.videos} videos on {self.pages} page{'s' if self.pages != 1 else ''}"
        return f"{'ok' if self.ok else 'changed'}: {seen}" + (f"; {told}" if told else "")


def judge(documents: Sequence[Any], site: str) -> Judgement:
    """The shape of the answers of a search, in the order of its pages; a page is also judged by itself.

    A shape that a part of the answers has, as while the site rolls it out, is found in this way too.
    """
    whole, vanished, strange, pins, videos = _Sample(), dict[str, None](), dict[str, None](), 0, set[str]()
    for number, document in enumerate(documents):
        page = _Sample()
        page.add("", document)
        envelope = read_envelope(document)
        extraction = extract(envelope.results, session="canary", site=site)
        strange |= dict.fromkeys(_COUNT.sub("", what) for what in [*envelope.unknown, *extraction.unknown])
        if number == 0 and envelope.bookmark is None and len(envelope.results) >= USUAL_PAGE_SIZE:
            vanished["resource_response.bookmark"] = None  # nobody would know the way to the second page
        for entry in envelope.results:
            if (pin := as_pin(entry)) is not None:
                page.add("pin", pin)
        pins += extraction.pins
        videos |= {media.signature for media in extraction.media}
        vanished |= dict.fromkeys(page.vanished())
        whole.join(page)
    vanished |= dict.fromkeys(whole.vanished())
    unseen = [path for path in whole.unseen() if path not in vanished]
    return Judgement(
        pages=len(documents),
        pins=pins,
        videos=len(videos),
        vanished=list(vanished),
        new=sorted(whole.new),
        not_seen=unseen,
        strange=list(strange),
    )


class _Sample:
    """Which fields some objects had: `objects` counts these by path, `present` the fields that count as there."""

    def __init__(self) -> None:
        self.objects: Counter[str] = Counter()
        self.present: Counter[str] = Counter()
        self.new: set[str] = set()

    def join(self, other: _Sample) -> None:
        self.objects += other.objects
        self.present += other.present
        self.new |= other.new

    def add(self, path: str, value: Any, depth: int = 0) -> None:
        """An object, or a list of them, that was found at `path`."""
        if depth > DEPTH:
            return
        if isinstance(value, list):
            for inner in value:
                self.add(f"{path}[]", inner, depth + 1)
        elif isinstance(value, dict) and (value or depth == 0):
            self.objects[path] += 1
            for key, inner in value.items():
                self._add_field(path, str(key), inner, depth)

    def _add_field(self, path: str, key: str, value: Any, depth: int) -> None:
        named = path.endswith(".video_list")
        at = f"{path}.{'*' if named else key}".lstrip(".")
        if named and not _VARIANT.fullmatch(key):
            self.new.add(f"{path}.{key[:64]}")
        if at not in KNOWN:
            if path in _WATCHED or path.endswith(".video_list.*"):
                self.new.add(f"{path}.{key[:64]}".lstrip("."))
            return
        if value not in (None, {}, []) or at not in _VALUED:
            self.present[at] += 1
        if at in _PARENTS:
            self.add(at, value, depth + 1)

    def vanished(self) -> Iterator[str]:
        """Known fields of which enough parents were seen, and none of them had it."""
        return (path for path, weight in self._absent() if self.objects[_parent(path)] >= weight.value)

    def unseen(self) -> Iterator[str]:
        """Known places of videos that were not seen, for want of a parent too."""
        places = ("pin.story_pin_data", "pin.carousel_data", "pin.embed", *_PLACES)
        return (path for path in places if not self.objects[path])

    def _absent(self) -> Iterable[tuple[str, Weight]]:
        return ((path, weight) for path, weight in KNOWN.items() if not self.present[path])


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _shown(names: list[str]) -> str:
    more = len(names) - MOST_SHOWN
    return ", ".join(names[:MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
