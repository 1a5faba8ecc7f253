"""Videos as JSON, NDJSON or CSV, whichever a client accepts."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable

import mimeparse
import msgspec

from libs.common.messages import Video
from services.gateway.problems import Problem
from services.gateway.resources import FoundVideo

JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
OFFERED = (CSV, NDJSON, JSON)  # the last is given where a client has no preference

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # what a spreadsheet would begin to calculate at
# likewise within a text, where one splits at `;` or a tab and knows no quotes; `;-)` and lines of a list are none
CALCULATES = re.compile(r"(?<=[;\t\r\n])(?=[=@]|[+-](?![ )]))")

COLUMNS: dict[str, Callable[[Video], object]] = {
    "id": lambda video: video.id,
    "kind": lambda video: video.kind.value,
    "verified": lambda video: "true" if video.verified else "false",
    "url": lambda video: video.url,
    "width": lambda video: video.width,
    "height": lambda video: video.height,
    "duration_ms": lambda video: video.duration_ms,
    "size_bytes": lambda video: video.size_bytes,
    "codec": lambda video: video.codec,
    "title": lambda video: video.pin.title,
    "description": lambda video: video.pin.description,
    "creator": lambda video: video.pin.creator.username if video.pin.creator else None,
    "creator_name": lambda video: video.pin.creator.full_name if video.pin.creator else None,
    "board": lambda video: video.pin.board.name if video.pin.board else None,
    "pin_url": lambda video: video.pin.url,
    "created_at": lambda video: video.pin.created_at,
    "poster_url": lambda video: video.poster_url,
}

_encoder = msgspec.json.Encoder()


def preferred(accept: str | None) -> str:
    """The media type that a client wants most, of those that are OFFERED. Raises Problem 406."""
    if accept is None or not accept.strip():
        return JSON
    try:
        found = mimeparse.best_match(OFFERED, accept.lower())
    except mimeparse.MimeTypeParseException as error:
        raise Problem(406, "not_acceptable", f"Accept cannot be read: {error}", field="Accept") from error
    if not found:
        offered = ", ".join(reversed(OFFERED))
        raise Problem(406, "not_acceptable", f"Accept lets none of these pass: {offered}", field="Accept")
    return str(found)


def ndjson_line(found: FoundVideo) -> bytes:
    """A line."""
    return _encoder.encode(found) + b"\n"


def csv_header() -> bytes:
    """The first row: names that stay, in an order that stays."""
    return _row(["sequence", *COLUMNS])


def csv_row(found: FoundVideo) -> bytes:
    """A row (RFC 4180). What a spreadsheet would take for a formula has an apostrophe before it."""
    return _row([found.sequence, *(_inert(value_of(found.video)) for value_of in COLUMNS.values())])


def _inert(value: object) -> object:
    if not isinstance(value, str):
        return value
    inert = CALCULATES.sub("'", value)
    return f"'{inert}" if inert.startswith(FORMULA) else inert


def _row(cells: list[object]) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().encode("utf-8", "replace")
