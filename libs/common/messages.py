"""Every message of the system, in the order in which they flow.

Bodies are JSON objects, so that any subscriber can read them. Messages only grow: a new field has a default,
unknown fields are ignored, and `tests/golden` holds one of each that must decode for ever.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from typing import TypeVar

import msgspec

from libs.common.errors import MalformedMessage, NewerVersion

VERSION = 1  # of every body here; a body of a higher major version is refused, see `decode`


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What all bodies share."""

    version: int = VERSION


class Creator(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who made a pin."""

    username: str | None = None
    full_name: str | None = None
    url: str | None = None


class Board(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The board a pin is kept on; `url` is absolute."""

    name: str | None = None
    url: str | None = None


class Pin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The pin that carries a video. `created_at` is ISO 8601 in UTC, `dominant_color` is `#rrggbb`."""

    id: str | None = None
    url: str | None = None
    title: str | None = None
    description: str | None = None
    created_at: str | None = None
    creator: Creator | None = None
    board: Board | None = None
    dominant_color: str | None = None
    link: str | None = None
    reactions: int | None = None
    promoted: bool = False


class Orientation(StrEnum):
    """Which way a picture lies; a square is exactly as wide as high."""

    PORTRAIT = "portrait"
    LANDSCAPE = "landscape"
    SQUARE = "square"


class Filters(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every video of a session has to be; unset: anything. What the site does not tell does not pass.

    Durations in seconds and `min_height` in pixels, all inclusive; the height is that of the link that is given.
    `with_captions`: has some. `exclude_promoted`: carried by a pin, and by none that the site marks as promoted.
    `created_after` is ISO 8601 in UTC: the pin was made then or later.
    """

    min_duration_s: float | None = None
    max_duration_s: float | None = None
    min_height: int | None = None
    orientation: Orientation | None = None
    with_captions: bool = False
    exclude_promoted: bool = False
    created_after: str | None = None


class SearchRequest(Message, frozen=True, kw_only=True):
    """Hop 1, `search.requests.<session>`: what a client asked for.

    `result_limit` counts distinct videos. `requested_at` is seconds since 1970. `deadline_s` is how many seconds
    after the broker stored the request the session ends at the latest: a span, so that clocks need not agree.
    With a `scope` only those videos count that no session of that scope has given. `url` is what is read instead of a
    search, `query` then empty: an address that `libs.common.source` knows.
    """

    session: str
    query: str
    result_limit: int
    requested_at: float
    deadline_s: float = 600.0
    filters: Filters | None = None
    scope: str | None = None
    url: str | None = None


class Reason(StrEnum):
    """Why a session ended."""

    LIMIT = "limit"
    EXHAUSTED = "exhausted"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    RATE_LIMITED = "rate_limited"
    BLOCKED = "blocked"
    LOGIN_REQUIRED = "login_required"
    UPSTREAM_CHANGED = "upstream_changed"
    NOT_FOUND = "not_found"
    UNREACHABLE = "unreachable"
    BROWSER_FAILED = "browser_failed"
    FAILED = "failed"

    @classmethod
    def _missing_(cls, value: object) -> Reason | None:
        """A reason that a newer service has given counts as a failure here: its record must not be lost for it."""
        return cls.FAILED if isinstance(value, str) else None

    @property
    def failed(self) -> bool:
        """Whether the crawl ended for a fault and not as asked."""
        return self not in (Reason.LIMIT, Reason.EXHAUSTED, Reason.CANCELLED, Reason.DEADLINE)


class Lease(Message, frozen=True, kw_only=True):
    """The crawl's fence, `media.lease.<session>.<attempt>`.

    The closing record's attempt is `end`; it says why the crawl ended, so that whoever finds it can finish the closing,
    and which attempt closed it.
    """

    session: str
    attempt: str
    closed_by: str | None = None
    reason: Reason | None = None
    message: str | None = None


class Variant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rendition as the site listed it; `key` is the site's name for it, such as `V_720P`.

    `width` and `height` in pixels, `duration_ms` in milliseconds; the legacy family repeats the source's size on
    every variant.
    """

    key: str
    url: str
    width: int | None = None
    height: int | None = None
    duration_ms: int | None = None


class RawMedia(Message, frozen=True, kw_only=True):
    """Hop 2, `media.raw.<session>.<item>`: one video as the site gave it, not yet resolved.

    `variants` is empty for an embed, which has `embed_url`. `captions` maps a locale to an address.
    `captured_at` is seconds since 1970. `measure`: size and duration are asked for, so where the site has not told
    them the file is to be looked at.
    """

    session: str
    item: str
    signature: str
    pin: Pin
    variants: list[Variant] = []
    embed_url: str | None = None
    poster_url: str | None = None
    captions: dict[str, str] = {}
    duration_ms: int | None = None
    width: int | None = None
    height: int | None = None
    captured_at: float = 0.0
    measure: bool = False


class Kind(StrEnum):
    """What a direct link opens as; `other` is what a newer service calls by a name that is not known here."""

    MP4 = "mp4"
    HLS = "hls"
    EMBED = "embed"
    OTHER = "other"

    @classmethod
    def _missing_(cls, value: object) -> Kind | None:
        """A kind that a newer service has given: its record must not be lost for it."""
        return cls.OTHER if isinstance(value, str) else None


class Alternative(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Another address of the same video."""

    url: str
    kind: Kind
    verified: bool = False
    codec: str | None = None
    width: int | None = None
    height: int | None = None


class Video(msgspec.Struct, frozen=True, kw_only=True):
    """A direct link with its metadata: what a client receives.

    `id` is the signature: 32 hex digits, the same for the same video. `kind` `hls` and `embed` are not files.
    `verified` says that a request for `url` was answered as its kind should be. `codec` is `h264`, `hevc` or `av1`.
    `width` and `height` in pixels, `duration_ms` in milliseconds, `size_bytes` as the server declared it.
    """

    id: str
    url: str
    kind: Kind
    verified: bool
    codec: str | None = None
    width: int | None = None
    height: int | None = None
    duration_ms: int | None = None
    size_bytes: int | None = None
    poster_url: str | None = None
    captions: dict[str, str] = {}
    alternatives: list[Alternative] = []
    pin: Pin = Pin()


class DirectMedia(Message, frozen=True, kw_only=True):
    """Hop 3, `media.direct.<session>.<item>`: a resolved item; exactly one of `video` and `unavailable` is set.

    `unavailable` is the reason why there is no usable media.
    """

    session: str
    item: str
    video: Video | None = None
    unavailable: str | None = None
    captured_at: float = 0.0


# Hop 4, the session log: records in the bucket `results`, one key each.


class RequestRecord(Message, frozen=True, kw_only=True):
    """`<session>.request`, written by the gateway. `owner` is who may see the session; empty: whoever knows its id.

    `place` stands for the address that it was asked for from: equal for equal ones, and no more can be told from it.
    `callback_url` is where its results are posted to.
    """

    request: SearchRequest
    owner: str = ""
    place: str = ""
    callback_url: str | None = None


class VideoRecord(Message, frozen=True, kw_only=True):
    """`<session>.video.<signature>`, written by dedup: the claim and the result in one."""

    item: str
    video: Video
    captured_at: float = 0.0


class RepeatRecord(Message, frozen=True, kw_only=True):
    """`<session>.repeat.<item>`, written by dedup: this item repeats a video already given.

    `seen`: by another session of the same scope.
    """

    item: str
    signature: str
    seen: bool = False


class UnavailableRecord(Message, frozen=True, kw_only=True):
    """`<session>.unavailable.<item>`, written by dedup: no usable media, with the reason.

    `filtered`: there is, but it is not what the session's filters ask for; `reason` names the filter.
    """

    item: str
    reason: str
    filtered: bool = False


class ProgressRecord(Message, frozen=True, kw_only=True):
    """`<session>.progress`, written by the crawler: its latest state.

    `way` is `feed` or `page`; `waiting_until` is seconds since 1970 while something is being waited for, and
    `waiting_for` names it. `filtered` is how many items were passed over for the session's filters.
    """

    state: str
    pages: int = 0
    way: str | None = None
    waiting_for: str | None = None
    waiting_until: float | None = None
    filtered: int = 0


class CrawledRecord(Message, frozen=True, kw_only=True):
    """`<session>.crawled`: the crawl is over; `items` is the number of distinct items it emitted.

    `fingerprints` are theirs (`fingerprint`), one after the other, so that an outcome of anything else does not count
    towards the end; empty where they are unknown or too many. `message` says in a sentence what happened and what to
    do, where `reason` is a failure; of another end it says what there is to say. `filtered` is how many more were
    passed over for the session's filters.
    """

    reason: Reason
    items: int
    message: str | None = None
    fingerprints: bytes = b""
    filtered: int = 0


class CancelRecord(Message, frozen=True, kw_only=True):
    """`<session>.cancel`, written by the gateway: the client asked to stop."""

    requested_at: float


class OwnedRecord(Message, frozen=True, kw_only=True):
    """`owner-<hash>.owned.<session>`, written by the gateway: an entry in the list of somebody's sessions."""

    session: str


class Webhook(Message, frozen=True, kw_only=True):
    """`webhooks.<caller>.<session>`, written by the gateway: a session whose results are to be posted."""

    session: str


class Over(StrEnum):
    """Why nothing more of a session is posted."""

    DELIVERED = "delivered"
    GONE = "gone"
    GIVEN_UP = "given_up"
    EXPIRED = "expired"
    FAILED = "failed"

    @classmethod
    def _missing_(cls, value: object) -> Over | None:
        """What a newer gateway has given ends it here too."""
        return cls.FAILED if isinstance(value, str) else None


class Callback(Message, frozen=True, kw_only=True, omit_defaults=True):
    """`$KV.callbacks.<session>`, written by the gateway that posts: how far it is.

    Videos to the sequence `delivered` were taken; the batch that ends at `through` is on its way. `failures` in a row
    began at `failing_since`; `status` and `error` are of the last attempt, at `tried_at`; the next is at `retry_at`.
    Times are seconds since 1970. `holder` names the taking in hand that wrote last.
    """

    delivered: int = 0
    through: int = 0
    attempts: int = 0
    failures: int = 0
    failing_since: float | None = None
    tried_at: float | None = None
    retry_at: float | None = None
    status: int | None = None
    error: str | None = None
    over: Over | None = None
    holder: str = ""


# The pace of requests to a site, one record a site in the bucket `pace`.


class AccessKey(Message, frozen=True, kw_only=True, omit_defaults=True):
    """`$KV.access.<id>`: who may use the gateways, by `pinstream keys`. `digest` is its secret's SHA-256 in hex.

    Keys of one `owner` see each other's sessions. Times are seconds since 1970.
    """

    id: str
    name: str
    owner: str
    digest: str
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None


class Ticket(Message, frozen=True, kw_only=True, omit_defaults=True):
    """`$KV.tickets.<digest>`: leave to connect once as the caller that asked for it; `used_by` names the connection.

    `events_of` is the session whose events it was used for, which it opens again.
    """

    owner: str = ""
    key: str | None = None
    until: float | None = None
    used_by: str | None = None
    events_of: str | None = None


class Salt(Message, frozen=True, kw_only=True):
    """`$KV.access.salt`: what makes names of addresses that nobody can turn back; made by the first gateway.

    `$KV.access.webhooks` likewise: what makes the secrets of webhooks, where no setting does. `before` is what it was
    until it was changed, which signs, too, until it is dropped.
    """

    value: str
    before: tuple[str, ...] = ()


class AtPlace(msgspec.Struct, frozen=True):
    """How many there are from one place."""

    place: str
    count: int


class Crowd(Message, frozen=True, kw_only=True):
    """`$KV.limits.at.<gateway>`: a gateway's connections, by place; old records are of gateways that are gone."""

    connections: tuple[AtPlace, ...] = ()


class Pace(Message, frozen=True, kw_only=True, omit_defaults=True):
    """`$KV.pace.<site>`, written by whoever asks the site; see `pace.py`. Times are seconds since 1970, broker's clock.

    `full_at` is when the bucket of requests is full again; before `held_until` the site wants none. `refused` are the
    last sessions among the `refusals` in a row, `reason` is the last one's. `opened` counts how often in a row the
    circuit was opened (0: closed), the last time to `open_until`; a probe is under way until `probe_until`.
    """

    full_at: float = 0.0
    held_until: float = 0.0
    refusals: int = 0
    refused: tuple[str, ...] = ()
    reason: Reason | None = None
    opened: int = 0
    open_until: float = 0.0
    probe_until: float = 0.0


class SeenRecord(Message, frozen=True, kw_only=True):
    """`<scope>.<signature>` in the bucket `seen`, written by dedup: which session of a scope gives a video.

    Until it is `given` the claim stands only while that session may still give it.
    """

    session: str
    item: str
    given: bool = False


FINGERPRINT_BYTES = 6


def fingerprint(item: str) -> bytes:
    """Six bytes that stand for an item's name: two of ten thousand are alike once in five million sessions."""
    return blake2b(item.encode(), digest_size=FINGERPRINT_BYTES).digest()


M = TypeVar("M", bound=Message)

_encoder = msgspec.json.Encoder()


def encode(message: Message) -> bytes:
    """The JSON body of `message`."""
    return _encoder.encode(message)


class _Version(msgspec.Struct):
    version: int = VERSION


def decode(body: bytes, type_: type[M]) -> M:
    """The message of `type_` in `body`.

    Raises MalformedMessage, naming the field, where the body is not one; NewerVersion where its version is higher.
    """
    try:
        version = msgspec.json.decode(body, type=_Version).version
        if version > VERSION:
            raise NewerVersion(f"{type_.__name__}: version {version} is newer than {VERSION}, the highest known here")
        return msgspec.json.decode(body, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedMessage(f"{type_.__name__}: {error}") from error
