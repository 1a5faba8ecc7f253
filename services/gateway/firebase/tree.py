"""A session as a tree: `/sessions/<id>/videos/<key>`, `/sessions/<id>/status`, `/sessions/<id>/stats`. Pure.

A video's key is its sequence in fixed width, so that the order of keys is that of the log.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import msgspec

from libs.common.errors import PinstreamError
from libs.common.frames import Completed, Progress
from libs.common.messages import Video
from libs.common.subjects import TOKEN

SESSIONS, REQUESTS = "sessions", "requests"
VIDEOS, STATUS, STATS = "videos", "status", "stats"
STREAMED: tuple[tuple[str, ...], ...] = ((), (VIDEOS,))  # the paths in a session whose value may be of any size
KEY_DIGITS = 10
MOST_DEPTH = 32
COUNTS = ("found", "repeats", "unavailable", "seen", "filtered", "pages")

Path = tuple[str, ...]

_forbidden = re.compile(r"[.#$\[\]/\x00-\x1f\x7f%]")


class PermissionDenied(PinstreamError):
    """Permission denied"""


class Place(NamedTuple):
    """Where a client looks: `path` below `/sessions/<name>` or, of a `request`, below `/requests/<name>`."""

    name: str
    path: Path
    request: bool = False


class Change(NamedTuple):
    """What is at `path` from now on; with `merge` each of the children in `value`, where null takes one away."""

    path: Path
    value: Any
    merge: bool = False


def key_of(sequence: int) -> str:
    """The key of the video that the log holds at `sequence`."""
    return f"v{sequence:0{KEY_DIGITS}d}"


def path_of(text: str) -> Path:
    """The parts of a path."""
    return tuple(part for part in text.split("/") if part)


def place_of(text: str) -> Place | None:
    """The place that a path names, or None where nothing ever is. Raises PermissionDenied for what lists the tree."""
    path = path_of(text)
    if len(path) < 2 or path[0] not in (SESSIONS, REQUESTS):
        raise PermissionDenied
    known = TOKEN.fullmatch(path[1]) and len(path) <= MOST_DEPTH
    return Place(path[1], path[2:], path[0] == REQUESTS) if known else None


def node(value: Any) -> Any:
    """`value` as the tree has it: without nulls and without what is empty; keys without the characters of paths."""
    if isinstance(value, dict):
        children = {_key(str(name)): node(child) for name, child in value.items()}
        return {name: child for name, child in children.items() if child is not None} or None
    if isinstance(value, list):
        return [child for item in value if (child := node(item)) is not None] or None
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _key(name: str) -> str:
    return _forbidden.sub(lambda found: f"%{ord(found[0]):02X}", name) or "%"


def video_node(video: Video) -> dict[str, Any]:
    """What is below a video's key."""
    found: dict[str, Any] = node(msgspec.to_builtins(video))
    return found


def status_node(progress: Progress, completed: Completed | None) -> dict[str, Any]:
    """How a session is: `state`, and once that is `completed` the `reason` and the `sequence` of its end."""
    if completed is None:
        known: dict[str, Any] = {name: getattr(progress, name) for name in ("state", "waiting_for", "waiting_until")}
    else:
        known = {"state": "completed", "reason": str(completed.reason), "message": completed.message}
        known["sequence"] = completed.sequence
    return {name: value for name, value in known.items() if value is not None}


def stats_node(progress: Progress, completed: Completed | None) -> dict[str, Any]:
    """What a session has come to; `items`, `first_video_s` and `elapsed_s` once it is over."""
    known: dict[str, Any] = {name: getattr(progress, name) for name in COUNTS}
    if completed is not None:
        known |= {name: getattr(completed.summary, name) for name in ("items", "first_video_s", "elapsed_s")}
    return {name: value for name, value in known.items() if value is not None}


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The children to merge that make one of the other."""
    gone: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    return gone | {name: value for name, value in after.items() if before.get(name) != value}


def narrowed(change: Change, path: Path) -> Change | None:
    """What a change in a session is to who looks at `path` in it."""
    if change.path[: len(path)] == path:
        return change._replace(path=change.path[len(path) :])
    if path[: len(change.path)] != change.path:
        return None
    rest = path[len(change.path) :]
    if change.merge and rest[0] not in change.value:
        return None
    return Change((), dig(change.value, rest))


def dig(value: Any, path: Path) -> Any:
    """What `value` has at `path`, or None."""
    for part in path:
        if isinstance(value, list):
            value = value[int(part)] if part.isascii() and part.isdigit() and int(part) < len(value) else None
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value
