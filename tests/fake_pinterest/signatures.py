"""A video's signature says which clip it is, so that any process knows its renditions without having seen the query.

32 hex digits: 13 random bytes, a byte of clip and mood, 2 bytes by which a made-up signature is told from a real one.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

from .clips import CLIPS, Clip

MOODS = ("", "cdn_slow", "cdn_down", "cdn_down_once", "cdn_head_forbidden")


def digest(*parts: object, size: int = 8) -> bytes:
    return blake2b(repr(parts).encode(), digest_size=size).digest()


def number(*parts: object) -> int:
    return int.from_bytes(digest(*parts))


def make_signature(origin: object, clip_code: int, mood: int) -> str:
    body = digest("video", origin, size=13)
    kind = bytes([(clip_code << 3 | mood) ^ digest("kind", body.hex())[0]])
    return (body + kind + digest("check", (body + kind).hex(), size=2)).hex()


@lru_cache(maxsize=65_536)
def read_signature(signature: str) -> tuple[Clip, str] | None:
    """The clip behind a signature and the mood of the CDN towards it; None if there is no such video."""
    try:
        raw = bytes.fromhex(signature)
    except ValueError:
        return None
    if len(raw) != 16 or signature != raw.hex() or raw[14:] != digest("check", raw[:14].hex(), size=2):
        return None
    value = raw[13] ^ digest("kind", raw[:13].hex())[0]
    code, mood = value >> 3, value & 7
    if code >= len(CLIPS) or mood >= len(MOODS):
        return None
    return CLIPS[code], MOODS[mood]


def clip_of(signature: str) -> Clip:
    known = read_signature(signature)
    if known is None:
        raise LookupError(signature)
    return known[0]


def sharded(signature: str) -> str:
    return f"{signature[:2]}/{signature[2:4]}/{signature[4:6]}/{signature}"


def duration_ms(signature: str) -> int:
    return 3_000 + number("duration", signature) % 57_000


def has_captions(signature: str) -> bool:
    return number("captions", signature) % 3 == 0
