"""HLS playlists: the ladder of a master."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urljoin

import m3u8

from services.transformer.address import bare, codec_of

_RUNG = re.compile(r"_(\d+)w", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rung:
    """One rendition of a ladder; `width` and `height` in pixels where the master says so."""

    url: str
    width: int | None = None
    height: int | None = None

    @property
    def label(self) -> int:
        """The width in its file's name (`_720w`), which need not be its true width; 0 where there is none."""
        match = _RUNG.search(bare(self.url).rsplit("/", 1)[-1])
        return int(match[1]) if match else 0

    @property
    def area(self) -> int:
        return (self.width or 0) * (self.height or 0) or self.label * self.label * 16 // 9


@dataclass(frozen=True, slots=True)
class Ladder:
    """A playlist that was read; `rungs` are largest first, none for a media playlist."""

    url: str
    codec: str = "h264"
    rungs: list[Rung] = field(default_factory=list)

    @property
    def size(self) -> tuple[int | None, int | None]:
        return (self.rungs[0].width, self.rungs[0].height) if self.rungs else (None, None)

    def rung(self, label: int) -> Rung | None:
        return next((rung for rung in self.rungs if rung.label == label), None)


def read_ladder(text: str, url: str) -> Ladder | None:
    """The ladder in `text`, which was read from `url`; None where it is not a playlist."""
    text = text.lstrip("\ufeff \r\n\t")
    if not text.startswith("#EXTM3U"):
        return None
    try:
        playlists = m3u8.loads(text).playlists
        rungs = [_rung(entry, url) for entry in playlists if entry.uri]
        codecs = " ".join(entry.stream_info.codecs or "" for entry in playlists)
    except (ValueError, KeyError, IndexError, AttributeError, TypeError, m3u8.ParseError):
        # A tag the library cannot read; the names, which are what guesses are made of, are lines of their own.
        names = [line.strip() for line in text.splitlines() if bare(line.strip()).endswith(".m3u8")]
        rungs = [Rung(urljoin(url, name)) for name in names if not name.startswith("#")]
        codecs = ""
    rungs.sort(key=lambda rung: rung.area, reverse=True)
    return Ladder(url, _codec(codecs) or codec_of(url), rungs)


def _rung(entry: m3u8.Playlist, url: str) -> Rung:
    width, height = entry.stream_info.resolution or (None, None)
    return Rung(urljoin(url, entry.uri), width, height)


def _codec(codecs: str) -> str | None:
    for prefixes, name in ((("avc",), "h264"), (("hvc", "hev", "dvh"), "hevc"), (("av01",), "av1")):
        if any(prefix in codecs.lower() for prefix in prefixes):
            return name
    return None
