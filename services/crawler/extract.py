"""JSON of the site → found media. Pure; whatever the JSON holds, the answer is a list and never a traceback."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from libs.common.messages import Pin, RawMedia, Variant
from services.crawler.address import digest, embed_of, is_media, is_on_cdn, signature_in, signature_of
from services.crawler.metadata import metadata, pin_id, poster
from services.crawler.value import DEPTH, link, readable, rows, snake, table, text, whole

_VIDEO_KEYS = ("videos", "story_pin_data", "carousel_data", "embed")  # a gated stub has none of them
_BADGES = ("is_video", "grid_badge", "is_playable", "video_status")
_NEWER_KEYS = ("entityId", "storyPinData", "carouselData", "gridTitle", "videoList", "isVideo", "dominantColor")
_PIN_KEYS = (
    *("images", "pinner", "board", "videos", "image_signature", "grid_title", "node_id", "story_pin_data"),
    "carousel_data",
)
_OTHERS = (  # parts of a pin that describe something else; what plays there is not this pin's video
    *("pinner", "native_creator", "origin_pinner", "creator", "closeup_attribution", "board", "pinned_to_board"),
    *("promoter", "images", "link", "rich_summary", "rich_metadata", "related_pins", "aggregated_pin_data"),
)
_OTHER_TYPES = ("user", "board", "pin", "story", "interest")  # such an object inside a pin is not the pin's either
_VIDEO_NAMES = ("video", "video_data", "video_data_v2")  # of a story's block; the last in the newer shape
MOST_VARIANTS, MOST_CAPTIONS, MOST_LOCALE, MOST_KEY = (
    64,
    64,
    32,
    64,
)  # far above what was seen; a message must stay small
_ADDRESS_KEYS = ("url", "src", "uri", "video_url")


class Extraction(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in one document.

    `pins` counts pins, `stubs` are those of them that carry no field where a video could be, as gated answers do,
    `badged` those stubs that are marked as videos, and `bare` the pins with a video of which no address is told.
    `unknown` says what was not understood, in words.
    """

    media: list[RawMedia] = []
    pins: int = 0
    stubs: list[str] = []
    badged: list[str] = []
    bare: list[str] = []
    unknown: list[str] = []

    @property
    def gated(self) -> bool:
        """Whether every pin was a stub."""
        return self.pins > 0 and len(self.stubs) == self.pins


class _Clip(NamedTuple):
    """One place in a pin that names a video: its JSON, and whose pictures stand for it."""

    video: Any
    holder: dict[str, Any]


def extract(results: list[Any], *, session: str, site: str, captured_at: float = 0.0) -> Extraction:
    """All media of the pins among `results`, in reading order; `site` is the origin of pin pages."""
    media: list[RawMedia] = []
    stubs: list[str] = []
    badged: list[str] = []
    bare: list[str] = []
    unknown: Counter[str] = Counter()
    pins = 0
    for entry in results:
        pin = as_pin(entry)
        if pin is None:
            continue
        pins += 1
        found, strange, withheld = _media_of(pin, session, site, captured_at)
        media += found
        unknown.update(strange)
        if not found and not any(key in pin for key in _VIDEO_KEYS) and (id_ := pin_id(pin)):
            stubs.append(id_)
            if any(pin.get(key) for key in _BADGES):
                badged.append(id_)
        if withheld and (id_ := pin_id(pin)):
            bare.append(id_)
    words = [f"{what} ({n})" for what, n in unknown.items()]
    return Extraction(media=media, pins=pins, stubs=stubs, badged=badged, bare=bare, unknown=words)


def as_pin(entry: Any) -> dict[str, Any] | None:
    """`entry` in the snake_case shape if it is a pin; an entry without a type is one if it looks like one."""
    if not isinstance(entry, dict):
        return None
    kind = entry.get("type", entry.get("__typename"))
    if isinstance(kind, str) and kind.lower() != "pin":
        return None
    if any(key in entry for key in _NEWER_KEYS) or any(key in table(entry, "videos") for key in _NEWER_KEYS):
        entry = snake(entry)
    looks = any(key in entry for key in _PIN_KEYS)
    return entry if (pin_id(entry) and isinstance(kind, str)) or looks else None


def _media_of(
    pin: dict[str, Any], session: str, site: str, captured_at: float
) -> tuple[list[RawMedia], list[str], bool]:
    """The media of a pin, what was strange about it, and whether it has more of which no address is told."""
    strange: list[str] = []
    words, id_ = metadata(pin, site), pin_id(pin)
    by_signature: dict[str, RawMedia] = {}  # the same video in two places of a pin is one item
    numbers: dict[str, int] = {}  # by signature; a video that is named only keeps its place

    def item_of(signature: str) -> str:
        number = numbers.setdefault(signature, len(numbers))
        return f"{id_}-{number}" if id_ else f"unnamed-{signature}"

    def add(clip: _Clip, variants: list[Variant]) -> None:
        signature = _signature(variants)
        known = by_signature.get(signature)
        if known is not None:
            seen = {variant.url for variant in known.variants}
            merged = [*known.variants, *(variant for variant in variants if variant.url not in seen)][:MOST_VARIANTS]
            by_signature[signature] = msgspec.structs.replace(known, variants=merged)
            return
        by_signature[signature] = _raw(clip, variants, signature, item_of(signature), words, pin, session, captured_at)

    read: set[int] = set()
    for clip in _known_places(pin):
        if variants := _variants(clip.video):
            add(clip, variants)
            read.add(id(clip.video))
        elif named := _named(clip.holder):
            numbers.setdefault(named, len(numbers))
    for place, clip, variants in _unknown_places(pin, read):
        if _signature(variants) not in by_signature:
            strange.append(f"a video in the unknown place {readable(place)[:MOST_KEY]}")
            add(clip, variants)
    withheld = len(numbers) > len(by_signature)
    if _names_renditions(pin.get("videos")) and not by_signature:
        strange.append("videos without an address")
        withheld = True
    embed = embed_of(table(pin, "embed").get("src"))
    if embed is None and "embed" not in pin:
        embed = _embed_elsewhere(pin)
    if embed:
        address, canonical = embed
        signature = digest(canonical)
        by_signature.setdefault(
            signature,
            RawMedia(
                session=session,
                item=item_of(signature),
                signature=signature,
                pin=words,
                embed_url=address,
                poster_url=poster(pin),
                captured_at=captured_at,
            ),
        )
    return list(by_signature.values()), strange, withheld


def _names_renditions(videos: Any) -> bool:
    """Whether a `videos` object has anything in it; many a picture's has nothing."""
    return any(isinstance(value, dict | list | str) and value for value in table(videos).values())


def _known_places(pin: dict[str, Any]) -> Iterator[_Clip]:
    yield _Clip(pin.get("videos"), pin)
    for part in _story_parts(pin):
        yield _Clip(next((video for name in _VIDEO_NAMES if (video := table(part.get(name)))), None), part)
    for slot in rows(table(pin, "carousel_data").get("carousel_slots")):
        yield _Clip(table(slot).get("videos"), table(slot))


def _story_parts(pin: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What may hold a video in a story: each block and its page."""
    story = table(pin, "story_pin_data")
    for page in (*rows(story.get("pages")), *rows(story.get("pages_preview"))):
        yield from map(table, rows(table(page).get("blocks")))
        yield table(page)


def _named(part: dict[str, Any]) -> str | None:
    """The signature of a story's video that is not given, as in a search; the block may lack that too."""
    if named := text(part.get("video_signature")):
        return named.lower()
    return "unsigned" if text(part.get("type")) == "story_pin_video_block" else None


def _renditions(video: Any) -> Iterator[tuple[str, Any]]:
    """The rows of a `videos` object, of a `video` object, or of something shaped like them, each with its key."""
    video = table(video)
    lists = [listed for name, listed in video.items() if "video_list" in name]  # also video_list_mobile, say
    for listed in (*lists, video.get("video_urls"), video.get("variants"), video.get("videos")):
        numbered = {f"URL_{n}": row for n, row in enumerate(rows(listed))}
        yield from (listed if isinstance(listed, dict) else numbered).items()


def _variants(video: Any) -> list[Variant]:
    found: dict[str, Variant] = {}
    for key, row in _renditions(video):
        if (variant := _variant(key, row)) and variant.url not in found:
            found[variant.url] = variant
    return list(found.values())[:MOST_VARIANTS]


def _variant(key: str, row: Any) -> Variant | None:
    fields = table(row)
    candidates = [row] if isinstance(row, str) else [fields.get(name) for name in _ADDRESS_KEYS]
    address = next((found for value in candidates if (found := link(value)) and is_media(found)), None)
    if address is None:
        return None
    return Variant(
        key=readable(key)[:MOST_KEY],
        url=address,
        width=whole(fields.get("width")),
        height=whole(fields.get("height")),
        duration_ms=whole(fields.get("duration")) or None,
    )


def _unknown_places(pin: dict[str, Any], read: set[int]) -> Iterator[tuple[str, _Clip, list[Variant]]]:
    """Videos anywhere else in the pin than in the objects `read`: where the site renames a field, they are found."""
    loose: dict[str, tuple[str, list[Variant]]] = {}

    def walk(value: Any, path: tuple[str, ...], holder: dict[str, Any]) -> Iterator[tuple[str, _Clip, list[Variant]]]:
        if len(path) > DEPTH:
            return
        if isinstance(value, dict):
            if id(value) in read or _is_another(value):
                return
            if variants := _variants(value):
                yield ".".join(path), _Clip(value, holder), variants
                return
            for key, inner in value.items():
                if key not in _OTHERS:
                    yield from walk(inner, (*path, key), value)
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner, path, holder)
        elif isinstance(value, str) and (address := link(value)) and is_on_cdn(address):
            rest = loose.setdefault(signature_of(address), (".".join(path[:1]), []))[1]
            rest.append(Variant(key=readable(_key_in(path))[:MOST_KEY], url=address))

    for key, value in pin.items():
        if key not in _OTHERS and key != "embed":
            yield from walk(value, (key,), pin)
    for place, variants in loose.values():
        yield place, _Clip(None, pin), variants


def _is_another(value: dict[str, Any]) -> bool:
    kind = value.get("type", value.get("__typename"))
    return "username" in value or (isinstance(kind, str) and kind.lower() in _OTHER_TYPES)


def _embed_elsewhere(pin: dict[str, Any]) -> tuple[str, str] | None:
    for key, value in pin.items():
        if key not in _OTHERS and (found := embed_of(table(value).get("src"))):
            return found
    return None


def _key_in(path: tuple[str, ...]) -> str:
    return next((key for key in reversed(path) if key.startswith("V_")), path[-1] if path else "url")


def _signature(variants: list[Variant]) -> str:
    """The signature that most renditions carry; order and number of renditions do not change it."""
    named = Counter(found for variant in variants if (found := signature_in(variant.url)))
    if named:
        return min(named, key=lambda signature: (-named[signature], signature))
    return signature_of(min(variants, key=lambda variant: (".m3u8" not in variant.url, variant.key)).url)


def _raw(
    clip: _Clip,
    variants: list[Variant],
    signature: str,
    item: str,
    words: Pin,
    pin: dict[str, Any],
    session: str,
    captured_at: float,
) -> RawMedia:
    fields = [table(row) for _, row in _renditions(clip.video)]
    thumbnails = (link(row.get("thumbnail")) for row in fields)
    captions: dict[str, str] = {}
    for row in fields:
        for locale, value in table(row, "captions_urls").items():
            if address := link(value):
                captions.setdefault(readable(locale)[:MOST_LOCALE], address)
    captions = dict(list(captions.items())[:MOST_CAPTIONS])
    largest = max(variants, key=lambda variant: (variant.width or 0) * (variant.height or 0))
    return RawMedia(
        session=session,
        item=item,
        signature=signature,
        pin=words,
        variants=variants,
        poster_url=next((found for found in thumbnails if found), None) or poster(clip.holder) or poster(pin),
        captions=captions,
        duration_ms=max(variant.duration_ms or 0 for variant in variants) or None,
        width=largest.width,
        height=largest.height,
        captured_at=captured_at,
    )
