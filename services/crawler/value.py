"""Readings of JSON that may hold anything anywhere: each gives a value of one type, or nothing."""

from __future__ import annotations

import math
import re
from typing import Any
from urllib.parse import urljoin, urlsplit

MOST = 2**53  # above it a JSON number is no longer exact, and certainly no size, count or duration
MOST_CHARACTERS = 4096  # the site allows 800 in a description; addresses are shorter too
DEPTH = 40  # deeper than any recorded payload; guards the walks below against hostile nesting

_BLANK = re.compile(r"\s")
_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")
_VARIANT_KEYS = {
    name.replace("_", "").lower(): name
    for name in (
        *("V_HLSV4", "V_HLSV3_WEB", "V_HLSV3_MOBILE", "V_HLS_HEVC", "V_DASH_HEVC"),
        *(f"V_HEVC_MP4_T{tier}_V2" for tier in range(1, 6)),
    )
}


def table(value: Any, *path: str) -> dict[str, Any]:
    """The object at `path` in `value`; an empty one where there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def rows(value: Any) -> list[Any]:
    """`value` if it is a list; else none."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """A string that says something: stripped, of bounded length, and nothing where only blanks are left."""
    return (readable(value[:MOST_CHARACTERS]).strip() or None) if isinstance(value, str) else None


def readable(value: str) -> str:
    """Without halves of surrogate pairs, which no encoding has: a title that was cut in an emoji ends in one."""
    return value.encode("utf-8", "ignore").decode()


def token(value: Any) -> str | None:
    """A string that is to be given back as it is, however long."""
    return (value.strip() or None) if isinstance(value, str) else None


def whole(value: Any) -> int | None:
    """A number that is not negative, as an integer; numbers in strings count."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        value = int(value)
    if isinstance(value, float):
        value = int(value) if math.isfinite(value) else None
    return value if isinstance(value, int) and 0 <= value <= MOST else None


def link(value: Any, origin: str | None = None) -> str | None:
    """An http(s) address, made absolute; a path counts only where `origin` says of which site."""
    if not isinstance(value, str) or "/" not in value:  # most strings of a pin
        return None
    found = text(value)
    if found is None or _BLANK.search(found):
        return None
    if found.startswith("//"):
        found = "https:" + found
    try:
        if origin is not None and found.startswith("/"):
            found = urljoin(origin + "/", found)
        parts = urlsplit(found)
        return found if parts.scheme in ("http", "https") and parts.hostname else None
    except ValueError:
        return None


def snake(value: Any, depth: int = 0) -> Any:
    """The same JSON with the camelCase keys of the site's newer shape in the older snake_case."""
    if depth > DEPTH:
        return None
    if isinstance(value, dict):
        return {_snake_key(key): snake(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [snake(inner, depth + 1) for inner in value]
    return value


def _snake_key(key: str) -> str:
    if len(key) > 1 and key[0] == "v" and (key[1].isupper() or key[1].isdigit()):  # vHLSV4, v720P
        return _VARIANT_KEYS.get(key.lower(), "V_" + key[1:])
    return _HUMP.sub(r"_\1", key).lower() if not key.isupper() and not key.startswith("V_") else key
