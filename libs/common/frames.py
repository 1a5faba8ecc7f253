"""The WebSocket protocol, version 1: what a client sends and what it receives, one JSON object a frame.

Frames carry `id` where the operation that they answer had one.
"""

from __future__ import annotations

from typing import Any

import msgspec

from libs.common.messages import Filters, Reason, Video

SUBPROTOCOL = "pinstream.v1"
SUBPROTOCOL_TROUBLE = "pinstream.v1.1"  # the same, of a client that bears an `error` about a session which goes on
MAX_QUERY_CHARS = 500
MAX_CALLBACK_CHARS = 2048
MAX_RESULT_LIMIT = 10_000
DEFAULT_RESULT_LIMIT = 50


class CloseCode:
    """4000 to 4499: come back; 4500 to 4999: do not."""

    INTERNAL_ERROR = 1011
    SLOW_CONSUMER = 4008
    DRAINING = 4012
    UNAVAILABLE = 4013  # nobody can say now whether the client may come in
    RATE_LIMITED = 4029
    TOKEN_REFUSED = 4501  # also one that was good, and is revoked or has expired
    FORBIDDEN_ORIGIN = 4503


class ErrorCode:
    """Those that a client acts upon; docs/messages.md has all."""

    UNKNOWN_SESSION = "unknown_session"
    UNKNOWN_SEQUENCE = "unknown_sequence"
    EXPIRED = "expired"  # nothing is left to resume
    UNAVAILABLE = "unavailable"  # with `retry_after_s`; about a session that goes on where it answers no operation
    RATE_LIMITED = "rate_limited"  # with `retry_after_s`
    TOO_MANY_SESSIONS = "too_many_sessions"  # with `retry_after_s` where it is not about this connection alone
    DRAINING = "draining"  # with `retry_after_s`; another gateway takes it at once


class Frame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event"):
    """What all frames of the server share; `id` echoes the operation's."""

    id: Any = None


class Accepted(Frame, frozen=True, kw_only=True, tag="accepted"):
    """A session exists; `sequence` is the place of its request in the session log.

    `webhook_secret`: what its webhooks are signed with, where they are those of a caller without a name.
    """

    session_id: str
    sequence: int
    webhook_secret: str | None = None


class VideoFrame(Frame, frozen=True, kw_only=True, tag="video"):
    """A new video; `sequence` is what to resume after."""

    session_id: str
    sequence: int
    video: Video


class Progress(Frame, frozen=True, kw_only=True, tag="progress"):
    """How far a session is. `state` is `queued`, `starting`, `crawling`, `waiting` or `finishing`.

    `seen` counts what another session of the scope has given, `filtered` what the filters passed over, `queued` the
    sessions that wait before this one.
    """

    session_id: str
    found: int
    repeats: int
    unavailable: int
    state: str
    pages: int = 0
    waiting_for: str | None = None
    waiting_until: float | None = None
    seen: int = 0
    filtered: int = 0
    queued: int = 0


class Summary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a session came to; `first_video_s` and `elapsed_s` are seconds since it was requested."""

    found: int
    repeats: int
    unavailable: int
    items: int
    first_video_s: float | None = None
    elapsed_s: float | None = None
    seen: int = 0
    filtered: int = 0


class Completed(Frame, frozen=True, kw_only=True, tag="completed"):
    """The session is over: the last frame of it, once.

    `message` says what to do where `reason` is a failure; of another end it says what there is to say.
    """

    session_id: str
    sequence: int
    reason: Reason
    summary: Summary
    message: str | None = None


class ErrorFrame(Frame, frozen=True, kw_only=True, tag="error"):
    """An operation was refused. `field` is the path of what was wrong in it, such as `parameters.result_limit`.

    Without an `id`, with a `session_id` and the code `unavailable` it answers nothing: that session is held up, and a
    `progress` frame tells when it goes on.
    """

    code: str
    message: str
    session_id: str | None = None
    field: str | None = None
    retry_after_s: float | None = None


class Pong(Frame, frozen=True, kw_only=True, tag="pong"):
    """The answer to a ping."""


AnyFrame = Accepted | VideoFrame | Progress | Completed | ErrorFrame | Pong

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyFrame] = msgspec.json.Decoder(AnyFrame)


def encode_frame(frame: AnyFrame) -> str:
    """The text of `frame`."""
    return _encoder.encode(frame).decode()


def decode_frame(text: str | bytes) -> AnyFrame:
    """The frame in `text`; raises msgspec.ValidationError or msgspec.DecodeError."""
    return _decoder.decode(text)


class FilterParameters(Filters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters as a client gives them: one that is not known would be a promise that nobody keeps."""


class InitiateParameters(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for, a topic or an address of the site; `result_limit` counts distinct videos.

    `new_only`: those that no session of `scope` has given. `callback_url` is where they are posted to as they come.
    """

    search_query: str | None = None
    url: str | None = None
    result_limit: int = DEFAULT_RESULT_LIMIT
    filters: FilterParameters | None = None
    new_only: bool = False
    scope: str | None = None
    callback_url: str | None = None


class CancelParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Which session to stop."""

    session_id: str


class ResumeParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Which session to follow on; `after` is the last sequence seen, 0 for all."""

    session_id: str
    after: int = 0


class InitiateExtraction(msgspec.Struct, frozen=True, kw_only=True, tag_field="operation", tag="initiate_extraction"):
    """Start a session."""

    parameters: InitiateParameters
    id: Any = None


class CancelExtraction(msgspec.Struct, frozen=True, kw_only=True, tag_field="operation", tag="cancel_extraction"):
    """Stop a session."""

    parameters: CancelParameters
    id: Any = None


class ResumeExtraction(msgspec.Struct, frozen=True, kw_only=True, tag_field="operation", tag="resume_extraction"):
    """Follow a session from a sequence on."""

    parameters: ResumeParameters
    id: Any = None


class Ping(msgspec.Struct, frozen=True, kw_only=True, tag_field="operation", tag="ping"):
    """Ask for a pong."""

    id: Any = None


Operation = InitiateExtraction | CancelExtraction | ResumeExtraction | Ping
