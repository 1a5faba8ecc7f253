"""Media addresses on the CDN, taken apart: `BASE/FAMILY/FOLDER/AA/BB/CC/SIGNATURE…`."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

LEGACY = "mc"
NOT_VIDEO = ("captions", "thumbnails")
PIECES = (".cmfv", ".cmfa", ".mpd", ".m4s", ".ts", ".m4a", ".m4v")  # never handed on, but they tell where a video is

_MEDIA = re.compile(
    r"(?P<base>https?://.*?)/(?P<family>[a-z0-9]+)/(?P<folder>[\w-]+)"
    r"/(?P<shard>[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{2})/(?P<signature>[0-9a-f]{32})(?P<tail>[^/]*)",
    re.IGNORECASE,
)
_WRITTEN = re.compile(r"(?:https?:)?//[\w.\-]+(?::\d+)?/[\w./\-]*?(?P<signature>[0-9a-f]{32})[\w./\-]*", re.IGNORECASE)
_SLASH = re.compile(r"\\+u002f|\\+/|%2f", re.IGNORECASE)
_COLON = re.compile(r"\\+u003a|%3a", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one video's renditions are. `family` is `mc` (legacy), `iht` (current) or one not known yet."""

    base: str
    family: str
    shard: str
    signature: str

    @property
    def legacy(self) -> bool:
        return self.family == LEGACY

    @property
    def master(self) -> str:
        """Where its HLS master should be."""
        return self.at("hls", ".m3u8")

    def at(self, folder: str, tail: str) -> str:
        return f"{self.base}/{self.family}/{folder}/{self.shard}/{self.signature}{tail}"


def bare(url: str) -> str:
    """`url` without query and fragment."""
    return url.split("#", 1)[0].split("?", 1)[0]


@lru_cache(maxsize=1024)
def _parts(url: str) -> re.Match[str] | None:
    """`url` taken apart; one that is resolved is asked about a dozen times."""
    return _MEDIA.fullmatch(bare(url))


@lru_cache(maxsize=1024)
def suffix(url: str) -> str:
    """`.mp4`, `.m3u8` and so on, in small letters; empty where the path has none."""
    name = bare(url).rsplit("/", 1)[-1]
    return "." + name.rsplit(".", 1)[-1].lower() if "." in name else ""


def place(url: str) -> Place | None:
    """The place that `url` speaks of; None where it is not of the known form."""
    match = _parts(url)
    if match is None or match["family"].lower() in NOT_VIDEO:
        return None
    return Place(match["base"], match["family"], match["shard"], match["signature"])


def places(urls: Iterable[str]) -> list[Place]:
    """The distinct places of `urls`, legacy first, for those take the fewest requests."""
    found = dict.fromkeys(spot for url in urls if (spot := place(url)))
    return sorted(found, key=lambda spot: not spot.legacy)


def signature_of(url: str) -> str | None:
    """The signature in `url`, in small letters."""
    spot = _parts(url)
    return spot["signature"].lower() if spot else None


def is_master(url: str) -> bool:
    """Whether `url` names a whole playlist: `SIG.m3u8`, not a rung's `SIG_240w.m3u8`, which may be silent."""
    match = _parts(url)
    return match is None or match["tail"].lower() == ".m3u8"


def codec_of(url: str, key: str = "") -> str:
    """`hevc`, `av1` or `h264`, from the folder, the file's name and the site's name for the variant."""
    match = _parts(url)
    text = f"{match['family']}/{match['folder']}/{match['tail']} {key}" if match else f"{urlsplit(url).path} {key}"
    text = text.lower()
    if "hevc" in text or "h265" in text:
        return "hevc"
    return "av1" if "av1" in text else "h264"


def is_media(url: str) -> bool:
    """Whether `url` is a file or playlist of a video, or tells where one is."""
    if suffix(url) in (".mp4", ".m3u8"):
        return True
    return suffix(url) in PIECES and place(url) is not None


def media_in(text: str) -> dict[str, list[str]]:
    """Every media address in a page or JSON body, by signature, however it is escaped there.

    Knows JSON in HTML, JSON in a string in a script (`\\\\u002F`, `\\/`), percent-encoding and entities.
    """
    plain = _SLASH.sub("/", _COLON.sub(":", html.unescape(text)))
    found: dict[str, dict[str, None]] = {}
    for match in _WRITTEN.finditer(plain):
        url = match[0] if match[0].lower().startswith("http") else f"https:{match[0]}"
        if is_media(url):
            found.setdefault(match["signature"].lower(), {})[url] = None
    return {signature: list(urls) for signature, urls in found.items()}
