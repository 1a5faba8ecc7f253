"""Which addresses may be a video's file, best first: RawMedia → candidates. No I/O.

The stages: what the site listed (0), the legacy family (1), the current family
by its master playlist (2), the older folder of the current family (3), what the site says when asked (4), HLS (5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin

from libs.common.messages import Variant
from services.transformer.address import Place, bare, codec_of, is_master, place, places, signature_of, suffix
from services.transformer.playlist import Ladder, Rung

KEYS = ("V720P", "VEXP7", "VEXP6", "VEXP5", "VEXP4", "VEXP3")
TIERS = (4, 3, 2, 1)
USUAL_WIDTHS = (720, 540, 480, 360, 240)
ASKED = "asked"  # the key of a variant that the site gave when asked about the pin

_NAMED_SIZE = re.compile(r"(\d{3,4})[wp]\b")
_NAMED_WIDTH = re.compile(r"_(\d{3,4})w(?=[._])")
_TIER = re.compile(r"_t(\d)\b")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An address that may be a file; `width` and `height` only where they can be known, see `legacy`."""

    url: str
    stage: int
    codec: str = "h264"
    width: int | None = None
    height: int | None = None
    listed: bool = False


def of_video(variants: Iterable[Variant], signature: str) -> list[Variant]:
    """Those of `variants` that are of this video; all of them where none carries its signature."""
    variants = list(variants)
    marked = [variant for variant in variants if signature_of(variant.url) == signature.lower()]
    unmarked = [variant for variant in variants if signature_of(variant.url) is None]
    return marked + unmarked if marked else variants


def listed(variants: Iterable[Variant]) -> list[Candidate]:
    """Stage 0 (and 4): the H.264 files among `variants`, in the order of `KEYS`, then larger first."""
    return [candidate for candidate in _files(variants) if candidate.codec == "h264"]


def listed_in_other_codecs(variants: Iterable[Variant]) -> list[Candidate]:
    """HEVC, then AV1 files among `variants`, larger first; for those who allow them."""
    return sorted((item for item in _files(variants) if item.codec != "h264"), key=lambda item: item.codec == "av1")


def legacy(variants: Sequence[Variant]) -> list[Candidate]:
    """Stage 1: `mc/720p`, then the tiers, for every legacy place that an address of any kind speaks of.

    The legacy family repeats the source's size on every variant. A `720p` file is given the source's size where that
    is at most 720 wide, for it was not enlarged; otherwise, and for the tiers, the size is left open.
    """
    found = []
    for spot in _places(variants):
        if spot.legacy:
            width, height = _source_size(variants)
            fits = width is not None and width <= 720
            found.append(Candidate(spot.at("720p", ".mp4"), 1, "h264", *((width, height) if fits else (None, None))))
            found += [Candidate(spot.at("expMp4", f"_t{tier}.mp4"), 1) for tier in TIERS]
    return found


def current(spot: Place, ladder: Ladder | None, named: Sequence[int] = ()) -> list[Candidate]:
    """Stage 2: the H.264 file beside each rung, largest first, then at the `named` and the usual widths."""
    return _beside(spot, ladder, named, "expMp4", "h264")


def current_hevc(spot: Place, ladder: Ladder | None, named: Sequence[int] = ()) -> list[Candidate]:
    """The end of stage 2, for those who allow HEVC."""
    return _beside(spot, ladder, named, "hevcMp4V3", "hevc")


def named_widths(variants: Iterable[Variant]) -> list[int]:
    """The widths that listed addresses name, such as 486 of `SIG_486w.m3u8`, largest first."""
    found = {int(width) for variant in variants for width in _NAMED_WIDTH.findall(bare(variant.url))}
    return sorted(found, reverse=True)


def older(spot: Place, ladder: Ladder | None) -> list[Candidate]:
    """Stage 3: the folder that the current family used before."""
    rung = ladder.rung(720) if ladder else None
    size = (rung.width, rung.height) if rung else (None, None)
    return [Candidate(spot.at("720p", tail), 3, "h264", *size) for tail in (".mp4", "_720w.mp4")]


def current_places(variants: Sequence[Variant]) -> list[Place]:
    """The places whose master playlist is to be read before guessing."""
    return [spot for spot in _places(variants) if not spot.legacy]


def streams(variants: Sequence[Variant]) -> list[Candidate]:
    """Stage 5: HLS addresses: masters as listed, masters as guessed, then single rungs; H.264 before other codecs."""
    named = [
        Candidate(item.url, 5, codec_of(item.url, item.key), *_listed_size(item), item.key != ASKED)
        for item in variants
        if suffix(item.url) == ".m3u8" and "_audio" not in item.url
    ]
    guessed = [Candidate(spot.master, 5) for spot in _places(variants)]
    whole = [item for item in named if is_master(item.url)]
    rungs = [item for item in named if not is_master(item.url)]
    distinct: dict[str, Candidate] = {}
    for item in [*whole, *guessed, *rungs]:
        distinct.setdefault(bare(item.url), item)
    return sorted(distinct.values(), key=lambda item: item.codec != "h264")


def _files(variants: Iterable[Variant]) -> list[Candidate]:
    files = [variant for variant in variants if suffix(variant.url) == ".mp4"]
    files.sort(key=lambda variant: (_rank(variant), -_extent(variant)))
    return [
        Candidate(
            item.url,
            4 if item.key == ASKED else 0,
            codec_of(item.url, item.key),
            *_listed_size(item),
            listed=item.key != ASKED,
        )
        for item in files
    ]


def _rank(variant: Variant) -> int:
    key = variant.key.upper().replace("_", "")
    return KEYS.index(key) if key in KEYS else len(KEYS)


def _extent(variant: Variant) -> int:
    """How large a file is, by its size or by its name; only to compare."""
    spot = place(variant.url)
    if variant.width and variant.height and not (spot and spot.legacy):
        return variant.width * variant.height
    sizes = [int(size) for size in _NAMED_SIZE.findall(f"{variant.url} {variant.key.lower()}")]
    tiers = [200 + 100 * int(tier) for tier in _TIER.findall(variant.url)]
    width = max(sizes + tiers, default=0)
    return width * width * 16 // 9


def _listed_size(variant: Variant) -> tuple[int | None, int | None]:
    spot = place(variant.url)
    if spot is None or not spot.legacy:
        return variant.width, variant.height
    fits = variant.width is not None and variant.width <= 720 and "_t" not in variant.url.rsplit("/", 1)[-1]
    return (variant.width, variant.height) if fits else (None, None)


def _source_size(variants: Iterable[Variant]) -> tuple[int | None, int | None]:
    sizes = [(item.width, item.height) for item in variants if item.width and item.height]
    return max(sizes, key=lambda size: size[0] * size[1], default=(None, None))


def _places(variants: Iterable[Variant]) -> list[Place]:
    return places(variant.url for variant in variants)


def _beside(spot: Place, ladder: Ladder | None, named: Sequence[int], folder: str, codec: str) -> list[Candidate]:
    master = ladder.url if ladder else spot.master
    rungs = list(ladder.rungs) if ladder else []
    known = {rung.label for rung in rungs}
    more = [width for width in dict.fromkeys([*named, *USUAL_WIDTHS]) if width not in known]
    rungs += [Rung(urljoin(master, f"{spot.signature}_{width}w.m3u8")) for width in more]
    found: dict[str, Candidate] = {}
    for rung in rungs:
        head, slash, tail = bare(rung.url).rpartition("/hls/")
        if slash and tail.lower().endswith(".m3u8"):
            url = f"{head}/{folder}/{tail[: -len('.m3u8')]}.mp4"
            found.setdefault(url, Candidate(url, 2, codec, rung.width, rung.height))
    return list(found.values())
