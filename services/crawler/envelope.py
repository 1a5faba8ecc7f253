"""The envelopes that the site's answers and pages come in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from services.crawler.extract import as_pin
from services.crawler.metadata import pin_id
from services.crawler.value import DEPTH, rows, table, text, token, whole

_INITIAL = re.compile(r'<script[^>]*\bid="__PWS_(?:INITIAL_PROPS|DATA)__"[^>]*>(.*?)</script>', re.DOTALL)
_REGISTERED = re.compile(r"__PWS_RELAY_REGISTER_COMPLETED_REQUEST__\(\s*")
_DECODER = json.JSONDecoder(strict=False)  # strict, it refuses a tab in a title
_CURSOR = re.compile(r"bookmark|cursor|^next", re.IGNORECASE)
_NEAR = 4
_UNKNOWN_ENVELOPE = ("no resource_response", "data.results is not a list")


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of a resource: its entries, the cursor to the next, and the status that the site says it has.

    `data` is what the entries were taken from. `unknown` says in words what was missing or renamed; with `understood`
    false there was nothing to read.
    """

    results: list[Any] = []
    data: Any = None
    bookmark: str | None = None
    status: int | None = None
    complaint: str | None = None
    understood: bool = True
    unknown: list[str] = []

    @property
    def ids(self) -> set[str]:
        """Those of its pins."""
        pins = (as_pin(entry) for entry in self.results)
        return {pin_id(pin) or str(pin.get("node_id")) for pin in pins if pin is not None}

    @property
    def lost(self) -> bool:
        """Whether no cursor was found where one would not be known: this may be the end, or not."""
        return bool(self.bookmark is None and any(what in _UNKNOWN_ENVELOPE for what in self.unknown))


def read_envelope(document: Any) -> Envelope:
    """The entries and the cursor of a resource's answer, of whatever shape."""
    unknown: list[str] = []
    if not isinstance(document, dict):
        return Envelope(understood=False, unknown=["the answer is not an object"])
    response = table(document, "resource_response")
    error = table(response, "error")
    if error or text(response.get("status")) == "failure":
        told = (whole(error.get("http_status")), whole(response.get("http_status")))
        status = next((status for status in told if status and status >= 400), 500)
        complaint = text(error.get("message")) or text(response.get("message"))
        return Envelope(status=status, complaint=complaint, understood=False)
    if not response:
        unknown.append(_UNKNOWN_ENVELOPE[0])
    data = response.get("data")
    results = data if isinstance(data, list) else table(data).get("results")
    if not isinstance(results, list) and as_pin(data) is not None:
        results = [data]  # PinResource gives one pin
    understood = isinstance(results, list)
    if not isinstance(results, list):
        unknown.append(_UNKNOWN_ENVELOPE[1])
        results = _pin_list(document)
        understood = bool(results)
    bookmark = _bookmark(document, response)
    if bookmark is None and (renamed := _cursor_anywhere(document if unknown else {**response, "data": None})):
        unknown.append("a cursor of another name")
        bookmark = renamed
    return Envelope(results=results, data=data, bookmark=bookmark, understood=understood, unknown=unknown)


def decoded(body: str) -> Any:
    """The JSON of a body. Raises ValueError or RecursionError for what is not whole.

    The fast decoder refuses all of it for a half of a surrogate pair in one title.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError):
        return _DECODER.decode(body)


def embedded(html: str) -> list[Any]:
    """Entries that a page of the site carries in its HTML, in either of its two shapes."""
    found: list[Any] = []
    for document in _documents(html):
        state = table(document, "initialReduxState") or table(document, "props", "initialReduxState")
        pins = table(state, "pins")
        found += list(pins.values()) if pins else _pin_list(document)
    return found


def _documents(html: str) -> Iterator[Any]:
    for match in _INITIAL.finditer(html):
        yield from _decoded(match[1].strip(), 0)
    for match in _REGISTERED.finditer(html):
        start = _after_first_argument(html, match.end())
        if start is not None:
            yield from _decoded(html, start)


def _after_first_argument(html: str, start: int) -> int | None:
    try:
        _, end = _DECODER.raw_decode(html, start)
    except (ValueError, RecursionError):
        return None
    comma = re.compile(r"\s*,\s*").match(html, end)
    return comma.end() if comma else None


def _decoded(source: str, start: int) -> Iterator[Any]:
    try:
        yield _DECODER.raw_decode(source, start)[0]
    except (ValueError, RecursionError):
        return


def _bookmark(document: dict[str, Any], response: dict[str, Any]) -> str | None:
    options = table(document, "resource", "options")
    told = response.get("bookmark")
    for value in (told, *rows(told)[:1], *rows(options.get("bookmarks"))[:1]):
        if found := token(value):
            return found
    return None


def _cursor_anywhere(value: Any, depth: int = 0) -> str | None:
    """A string that is named like a cursor, near the top of a document whose shape is not known."""
    if not isinstance(value, dict) or depth > _NEAR:
        return None
    for key, inner in value.items():
        if _CURSOR.search(key) and (found := token(inner)):
            return found
    return next((found for inner in value.values() if (found := _cursor_anywhere(inner, depth + 1))), None)


def _pin_list(value: Any, depth: int = 0) -> list[Any]:
    """The longest list or table of pins anywhere in the document."""
    best: list[Any] = []
    if depth > DEPTH:
        return best
    if isinstance(value, dict):
        children = list(value.values())
        if as_pin(value) is not None:
            best = [value]
    elif isinstance(value, list):
        children = value
    else:
        return best
    if sum(as_pin(child) is not None for child in children) > len(best):
        return children
    for child in children:
        inner = _pin_list(child, depth + 1)
        best = inner if len(inner) > len(best) else best
    return best
