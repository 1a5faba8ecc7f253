"""What is posted: the same videos and the same end as over the WebSocket, as one JSON object a post."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from libs.common.frames import Completed, Summary
from libs.common.messages import Reason
from services.gateway.resources import FoundVideo


class VideoBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Videos in the order in which they were found, each with its place in the session log."""

    session_id: str
    videos: list[FoundVideo]


class End(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the session ended; no video comes after it. The members are those of the frame `completed`."""

    session_id: str
    sequence: int
    reason: Reason
    summary: Summary
    message: str | None = None


class VideoEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="video"):
    """Some videos were found, the last of them at `timestamp` (ISO 8601 in UTC)."""

    timestamp: str
    data: VideoBatch


class CompletedEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="completed"):
    """The session is over since `timestamp`: the last post of it."""

    timestamp: str
    data: End


def completed_event(frame: Completed, at: float) -> CompletedEvent:
    """The event of the end."""
    data = End(
        session_id=frame.session_id,
        sequence=frame.sequence,
        reason=frame.reason,
        summary=frame.summary,
        message=frame.message,
    )
    return CompletedEvent(timestamp=moment(at), data=data)


def moment(at: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
