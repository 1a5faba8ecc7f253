"""What REST gives, as types: the schemas of `/openapi.json` are made from these."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from libs.common.frames import Completed, Progress, Summary
from libs.common.messages import CrawledRecord, Filters, ProgressRecord, Reason, RequestRecord, SearchRequest, Video
from libs.common.session_state import Record
from services.gateway.following import Following

COMPLETED, ENDED = "completed", "ended"  # the last state; that in a list


class Created(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session exists; `sequence` is the place of its request in the session log.

    `webhook_secret`: what its webhooks are signed with, where they are those of a caller without a name.
    """

    session_id: str
    sequence: int
    webhook_secret: str | None = None


class WebhookSecret(msgspec.Struct, frozen=True, kw_only=True):
    """What the webhooks of all of a caller's sessions are signed with."""

    webhook_secret: str


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket, which lets one connection in within `expires_in_s` seconds; to a session's events again for an hour."""

    ticket: str
    expires_in_s: int


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session as it was asked for: `search_query` or `url`, as `POST /v1/sessions` takes them.

    `requested_at` is ISO 8601 in UTC. `sequence` is the place of the request in the session log.
    """

    session_id: str
    sequence: int
    requested_at: str
    result_limit: int
    search_query: str | None = None
    url: str | None = None
    filters: Filters | None = None
    new_only: bool = False
    scope: str | None = None


class CallbackStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far the posting of a session's results is.

    `state` is `pending`, `retrying`, and at the end `delivered`, `gone` (the receiver has answered 410), `given_up`,
    `expired` or `failed`. Videos to the sequence `delivered` were taken: the others are at `…/videos?after=` it.
    `status` and `error` are of the last attempt; times are ISO 8601 in UTC.
    """

    url: str
    state: str
    delivered: int = 0
    attempts: int = 0
    failures: int = 0
    status: int | None = None
    error: str | None = None
    tried_at: str | None = None
    retry_at: str | None = None


class Session(Asked, frozen=True, kw_only=True, omit_defaults=True):
    """A session as it is now.

    `state` is `queued`, `starting`, `crawling`, `waiting` or `finishing`, and `completed` at the end, which `reason`
    and `summary` tell of. While it is `waiting`, `waiting_for` says for what, and `waiting_until` until when (seconds
    since 1970).
    """

    state: str
    found: int = 0
    repeats: int = 0
    unavailable: int = 0
    seen: int = 0
    filtered: int = 0
    pages: int = 0
    waiting_for: str | None = None
    waiting_until: float | None = None
    reason: Reason | None = None
    summary: Summary | None = None
    message: str | None = None
    callback: CallbackStatus | None = None


class Listed(Asked, frozen=True, kw_only=True, omit_defaults=True):
    """A session of a list. `state` is as of a session, but `ended` once its crawl is over, for the `reason`.

    Its last videos may still be on their way then; the session itself says when it is `completed`. `found` is how many
    videos its log has so far.
    """

    state: str
    found: int = 0
    reason: Reason | None = None


class SessionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions, the oldest first; `next_after` is what to list on after, null at the end."""

    sessions: list[Listed]
    next_after: int | None


class FoundVideo(msgspec.Struct, frozen=True, kw_only=True):
    """A video and its place in the session log: what to go on after."""

    sequence: int
    video: Video


class VideoPage(msgspec.Struct, frozen=True, kw_only=True):
    """Videos, in the order in which they were found; `next_after` is what to go on after.

    `completed`: the session is over and no video comes after these.
    """

    session_id: str
    videos: list[FoundVideo]
    next_after: int
    completed: bool


def listed(there: Record, progress: Record | None, crawled: Record | None, found: int) -> Listed:
    """A session by its request, by what its crawler said last, and by the number of its videos."""
    assert isinstance(there.message, RequestRecord)
    state, reason = "queued", None
    if progress is not None and isinstance(progress.message, ProgressRecord):
        state = progress.message.state
    if crawled is not None and isinstance(crawled.message, CrawledRecord):
        state, reason = ENDED, crawled.message.reason
    asked = _asked(there.message.request, there.sequence, there.stored_at)
    return Listed(**asked, state=state, found=found, reason=reason)


def session_of(
    following: Following, sequence: int, completed: Completed | None, callback: CallbackStatus | None = None
) -> Session:
    """A session by what has been read of it, to `completed` where it is over."""
    state, progress = following.state, following.progress
    assert state.request is not None, "a session begins with its request"
    return Session(
        **_asked(state.request.request, sequence, state.requested_at),
        **_counts(progress),
        state=COMPLETED if completed else progress.state,
        reason=completed.reason if completed else None,
        summary=completed.summary if completed else None,
        message=completed.message if completed else None,
        callback=callback,
    )


def _asked(request: SearchRequest, sequence: int, requested_at: float) -> dict[str, Any]:
    return {
        "session_id": request.session,
        "sequence": sequence,
        "requested_at": datetime.fromtimestamp(requested_at, UTC).isoformat(timespec="milliseconds"),
        "result_limit": request.result_limit,
        "search_query": request.query or None,
        "url": request.url,
        "filters": request.filters,
        "new_only": request.scope is not None,
        "scope": request.scope,
    }


def _counts(progress: Progress) -> dict[str, Any]:
    names = ("found", "repeats", "unavailable", "seen", "filtered", "pages", "waiting_for", "waiting_until")
    return {name: getattr(progress, name) for name in names}
