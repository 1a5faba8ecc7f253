"""The hash of a value, as Firebase's clients make it of what they hold: a listen with the right one costs no data."""

from __future__ import annotations

import re
import struct
from base64 import b64encode
from hashlib import sha1
from typing import Any

EMPTY = ""
MOST_INTEGER = 2**31 - 1

_integer = re.compile(r"-?0*[0-9]{1,10}")


def hash_of(value: Any) -> str:
    """Base64 of SHA-1 over the type and the value of a leaf, or over the keys and hashes of children; null has none."""
    match value:
        case None:
            return EMPTY
        case dict() | list():
            children = value if isinstance(value, dict) else {str(n): child for n, child in enumerate(value)}
            of_all = ChildrenHash()
            for key in sorted(children, key=_order):
                of_all.add(key, children[key])
            return of_all.value
        case bool():
            text = f"boolean:{'true' if value else 'false'}"
        case int() | float():
            text = f"number:{struct.pack('>d', value).hex()}"
        case _:
            text = f"string:{value}"
    return _base64(sha1(text.encode(), usedforsecurity=False).digest())


class ChildrenHash:
    """The hash of an object whose children come one by one, in the order of their keys."""

    def __init__(self) -> None:
        self._sha1 = sha1(usedforsecurity=False)
        self._empty = True

    def add(self, key: str, child: Any) -> None:
        """The next child."""
        self.add_hash(key, hash_of(child))

    def add_hash(self, key: str, hash_: str) -> None:
        """Likewise, where its hash is known."""
        if hash_ != EMPTY:
            self._sha1.update(f":{key}:{hash_}".encode())
            self._empty = False

    @property
    def value(self) -> str:
        """Of the children so far."""
        return EMPTY if self._empty else _base64(self._sha1.digest())


def _base64(digest: bytes) -> str:
    return b64encode(digest).decode()


def _order(key: str) -> tuple[int, int, bytes]:
    """Integers by their number, before all others by their UTF-16 units."""
    if _integer.fullmatch(key) and -MOST_INTEGER - 1 <= int(key) <= MOST_INTEGER:
        return 0, int(key), key.encode()
    return 1, 0, key.encode("utf-16-be")
