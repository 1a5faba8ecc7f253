"""A pin's id says what the pin holds, so that PinResource answers alike in every process and after a restart."""

from __future__ import annotations

from typing import NamedTuple

from .signatures import digest

_BITS = 63
_MASK = (1 << _BITS) - 1
_FACTOR = 0x4F1BBCDCBFA53E0B  # odd, so that it has an inverse modulo 2**63
_INVERSE = pow(_FACTOR, -1, 1 << _BITS)


class PinId(NamedTuple):
    tag: int  # 24 bits: the feed in which the pin was born
    mood: int  # 3 bits: the CDN's, see signatures.MOODS
    ordinal: int  # 14 bits: the pin's place among the pins of its feed
    root: int  # 14 bits: the ordinal of the pin whose videos it shows; its own unless it is a re-pin
    code: int  # 6 bits: a clip, or a shape of pin


def encode_pin_id(pin: PinId) -> str:
    value = pin.tag
    for part, bits in ((pin.mood, 3), (pin.ordinal, 14), (pin.root, 14), (pin.code, 6)):
        value = value << bits | part
    return str(((value << 2 | _check(value)) * _FACTOR) & _MASK)


def decode_pin_id(text: str) -> PinId | None:
    if not text.isdecimal() or len(text) > 19 or int(text) > _MASK:
        return None
    value = int(text) * _INVERSE & _MASK
    value, check = value >> 2, value & 3
    if check != _check(value):
        return None
    code, root = value & 63, value >> 6 & 0x3FFF
    ordinal, mood, tag = value >> 20 & 0x3FFF, value >> 34 & 7, value >> 37
    return PinId(tag, mood, ordinal, root, code) if root <= ordinal and mood < 5 else None


def _check(value: int) -> int:
    return digest("pin", value)[0] & 3
