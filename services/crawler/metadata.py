"""What a pin says of itself, from its JSON."""

from __future__ import annotations

import re
from base64 import b64decode
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from libs.common.messages import Board, Creator, Pin
from services.crawler.value import link, rows, table, text, whole

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_POSTER_SIZES = ("orig", "originals", "736x", "564x", "474x")


def pin_id(pin: dict[str, Any]) -> str | None:
    """The id that pages and resources use; the newer shape's `id` is another, so its `entity_id` comes first.

    Where both lack it is taken out of `node_id`, base64 of `Pin:<id>`.
    """
    for value in (pin.get("entity_id"), pin.get("id"), _in_node_id(pin.get("node_id"))):
        number = isinstance(value, int) and not isinstance(value, bool)
        if (found := text(str(value) if number else value)) and _TOKEN.fullmatch(found):
            return found
    return None


def _in_node_id(node_id: Any) -> str | None:
    try:
        kind, _, id_ = b64decode(str(node_id), validate=True).decode("ascii").partition(":")
    except ValueError:
        return None
    return id_ if kind.lower() == "pin" else None


def metadata(pin: dict[str, Any], site: str) -> Pin:
    """The pin's own words; addresses absolute on `site`, an origin without a slash at its end."""
    id_ = pin_id(pin)
    return Pin(
        id=id_,
        url=f"{site}/pin/{id_}/" if id_ else None,
        title=text(pin.get("title")) or text(pin.get("grid_title")),
        description=text(pin.get("description")),
        created_at=moment(pin.get("created_at")),
        creator=_creator(pin, site),
        board=_board(pin, site),
        dominant_color=_colour(pin.get("dominant_color")),
        link=link(pin.get("link")),
        reactions=_reactions(pin),
        promoted=pin.get("is_promoted") is True or bool(pin.get("promoter")) or _given(pin.get("campaign_id")),
    )


def poster(holder: dict[str, Any]) -> str | None:
    """The largest picture of a pin or a carousel's slot."""
    images = table(holder, "images")
    for size in _POSTER_SIZES:
        if found := link(table(images, size).get("url")):
            return found
        if found := link(table(holder, f"images_{size}").get("url")):  # the newer shape: images_orig, images_736x
            return found
        if found := link(table(holder, f"image_spec_{size}").get("url")):
            return found
    return None


def moment(value: Any) -> str | None:
    """An RFC 2822 or ISO 8601 time as ISO 8601 in UTC."""
    found = text(value)
    if found is None:
        return None
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            parsed = parse(found)
            aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
            return aware.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None


def _creator(pin: dict[str, Any], site: str) -> Creator | None:
    for key in ("pinner", "native_creator"):
        person = table(pin, key)
        username, full_name = text(person.get("username")), text(person.get("full_name"))
        if username or full_name:
            url = f"{site}/{username}/" if username and "/" not in username else None
            return Creator(username=username, full_name=full_name, url=url)
    return None


def _board(pin: dict[str, Any], site: str) -> Board | None:
    board = table(pin, "board")
    name, url = text(board.get("name")), link(board.get("url"), site)
    return Board(name=name, url=url) if name or url else None


def _colour(value: Any) -> str | None:
    found = text(value)
    return found.lower() if found and _COLOUR.fullmatch(found) else None


def _reactions(pin: dict[str, Any]) -> int | None:
    counts = pin.get("reaction_counts")
    if isinstance(counts, dict):
        return sum(whole(count) or 0 for count in counts.values())
    if isinstance(counts, list):  # the newer shape: [{reaction_type, reaction_count}]
        return sum(whole(table(row).get("reaction_count")) or 0 for row in rows(counts))
    return whole(counts)


def _given(value: Any) -> bool:
    return value not in (None, "", "0", 0, False) and isinstance(value, str | int)
