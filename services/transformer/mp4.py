"""What the beginning of an MP4 file says of its size and duration (ISO/IEC 14496-12). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

BOX_HEADER = 8
CONTAINERS = (b"moov", b"trak")
MOST_SIDE = 16_384  # pixels; more is no size but damage


class Measure(NamedTuple):
    """Pixels as they are shown, and milliseconds; None where the file does not say."""

    width: int | None = None
    height: int | None = None
    duration_ms: int | None = None


def measure(beginning: bytes) -> Measure:
    """The size of the first picture track and the duration, as far as `beginning` reaches; damage gives nothing."""
    width = height = duration_ms = None
    for kind, body in _boxes(beginning):
        if kind == b"mvhd" and duration_ms is None:
            duration_ms = _duration_ms(body)
        elif kind == b"tkhd" and width is None:
            width, height = _size(body)
    return Measure(width, height, duration_ms)


def _boxes(data: bytes, depth: int = 0) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + BOX_HEADER <= len(data):
        size, kind, header = _number(data, at, 4), data[at + 4 : at + 8], BOX_HEADER
        if size == 1:  # a large one: 64 bits follow
            size, header = _number(data, at + 8, 8), BOX_HEADER + 8
        elif size == 0:  # to the end of the file
            size = len(data) - at
        if size < header:
            return
        body = data[at + header : at + size]
        if kind in CONTAINERS and depth < len(CONTAINERS):
            yield from _boxes(body, depth + 1)
        else:
            yield kind, body
        at += size


def _duration_ms(body: bytes) -> int | None:
    wide = body[:1] == b"\x01"
    scale, duration = (
        (_number(body, 20, 4), _number(body, 24, 8)) if wide else (_number(body, 12, 4), _number(body, 16, 4))
    )
    unknown = 2 ** (64 if wide else 32) - 1
    whole = len(body) >= (32 if wide else 20) and scale and duration and duration != unknown
    return round(duration * 1000 / scale) if whole else None


def _size(body: bytes) -> tuple[int | None, int | None]:
    """A sound track has none. One that is turned by a quarter is shown as high as it is wide."""
    matrix = 52 if body[:1] == b"\x01" else 40
    if len(body) < matrix + 44:
        return None, None
    width, height = _number(body, matrix + 36, 4) >> 16, _number(body, matrix + 40, 4) >> 16
    if not 0 < width <= MOST_SIDE or not 0 < height <= MOST_SIDE:
        return None, None
    turned = not _number(body, matrix, 4) and not _number(body, matrix + 16, 4)
    return (height, width) if turned else (width, height)


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size])
