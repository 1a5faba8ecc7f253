"""Every subject, stream, durable and bucket name, and which message each carries. Nowhere else are they spelled."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from libs.common.errors import MalformedMessage

TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")

# streams and the durables that read them
SEARCHES = "SEARCHES"  # SearchRequest
RAW = "RAW"  # RawMedia, Lease
DIRECT = "DIRECT"  # DirectMedia
RESULTS_BUCKET = "results"  # the session log: *Record
RESULTS = f"KV_{RESULTS_BUCKET}"
PACE_BUCKET = "pace"  # how fast a site may be asked: Pace
PACE = f"KV_{PACE_BUCKET}"
SEEN_BUCKET = "seen"  # which session of a scope gives a video: SeenRecord
SEEN = f"KV_{SEEN_BUCKET}"
ACCESS_BUCKET = "access"  # API keys: AccessKey
ACCESS = f"KV_{ACCESS_BUCKET}"
TICKETS_BUCKET = "tickets"  # leave to connect once: Ticket
TICKETS = f"KV_{TICKETS_BUCKET}"
LIMITS_BUCKET = "limits"  # how fast callers may ask (Pace), and how many connections gateways have (Crowd)
LIMITS = f"KV_{LIMITS_BUCKET}"
WEBHOOKS = "WEBHOOKS"  # sessions whose results are to be posted: Webhook
CALLBACKS_BUCKET = "callbacks"  # how far that is: Callback
CALLBACKS = f"KV_{CALLBACKS_BUCKET}"
QUARANTINE = "QUARANTINE"  # messages whose handling has ended in nothing before, headers and all
DEAD_LETTERS = "DEAD_LETTERS"  # bodies that could not be handled, headers and all

CRAWLER = "crawler"  # on SEARCHES
TRANSFORMER = "transformer"  # on RAW
DEDUP = "dedup"  # on DIRECT
POSTMEN = "postmen"  # on WEBHOOKS: the gateways
DEADLINES = "deadlines"  # on RESULTS: each session's request, once more when its deadline is past
SUSPECTS_OF = {CRAWLER: "suspects-crawler", TRANSFORMER: "suspects-transformer", DEDUP: "suspects-dedup"}

# subject templates: span names and metric labels use these, never ids
SEARCH_TEMPLATE = "search.requests.{session}"
RAW_TEMPLATE = "media.raw.{session}.{item}"
DIRECT_TEMPLATE = "media.direct.{session}.{item}"
RECORD_TEMPLATE = "results.{session}.{record}"
WEBHOOK_TEMPLATE = "webhooks.{caller}.{session}"

ALL_SEARCHES = "search.requests.*"
ALL_RAW = "media.raw.*.*"
ALL_LEASES = "media.lease.*.*"
ALL_DIRECT = "media.direct.*.*"
ALL_RECORDS = f"$KV.{RESULTS_BUCKET}.>"
ALL_REQUEST_RECORDS = f"$KV.{RESULTS_BUCKET}.*.request"
ALL_PACES = f"$KV.{PACE_BUCKET}.*"
ALL_SEEN = f"$KV.{SEEN_BUCKET}.>"
ALL_ACCESS_KEYS = f"$KV.{ACCESS_BUCKET}.*"
ALL_TICKETS = f"$KV.{TICKETS_BUCKET}.*"
ACCESS_SALT = f"$KV.{ACCESS_BUCKET}.salt"
ALL_LIMITS = f"$KV.{LIMITS_BUCKET}.*.*"
ALL_CROWDS = f"$KV.{LIMITS_BUCKET}.at.*"
ALL_WEBHOOKS = "webhooks.*.*"
ALL_CALLBACKS = f"$KV.{CALLBACKS_BUCKET}.*"
WEBHOOK_KEY = f"$KV.{ACCESS_BUCKET}.webhooks"
ALL_SUSPECTS = "quarantine.>"
ALL_DEAD_LETTERS = "dead.>"
ALL_LEASE_ENDS = "media.lease.*.end"
PUBLIC_RESULTS = "results.>"  # where the bucket republishes its records, for other services
ALL_CANCELS = "search.cancel.*"  # core NATS: a session id whose work is to stop at once
ALL_STATUS = "replica.status.*.*"  # core NATS: what a replica says of itself unasked, as it begins and ends

# services by their names in the NATS micro protocol (ADR-32)
GATEWAY = "gateway"
SERVICES = {service: f"pinstream-{service}" for service in (GATEWAY, CRAWLER, TRANSFORMER, DEDUP)}
PING, INFO, STATS = "PING", "INFO", "STATS"

# where JetStream is asked
JETSTREAM = "$JS.API"
# how one says what became of a message, and that a flow of them may go on. There are two forms of each: the older, and
# the one that servers use from 2.16 on, which names domain (`_` for none) and account first
ANSWERS = ("$JS.ACK.{stream}.{consumer}.>", "$JS.ACK._.*.{stream}.{consumer}.>")
FLOWS = ("$JS.FC.{stream}.>", "$JS.FC._.*.{stream}.>")


# the last part of a record's key
REQUEST = "request"
VIDEO = "video"
REPEAT = "repeat"
UNAVAILABLE = "unavailable"
PROGRESS = "progress"
CRAWLED = "crawled"
CANCEL = "cancel"
OWNED = "owned"  # not of a session's log: who owns it, in the place of a session


def token(text: str) -> str:
    """`text`, if it may stand between the dots of a subject; otherwise raises MalformedMessage."""
    if not TOKEN.fullmatch(text):
        raise MalformedMessage(f"{text[:40]!r} is not a subject token")
    return text


def search(session: str) -> str:
    """Where a session's request goes."""
    return f"search.requests.{token(session)}"


def raw(session: str, item: str) -> str:
    """Where a raw media goes."""
    return f"media.raw.{token(session)}.{token(item)}"


def raw_of(session: str) -> str:
    """All raw media of a session."""
    return f"media.raw.{token(session)}.*"


def lease(session: str, attempt: str) -> str:
    """Where one attempt's lease goes."""
    return f"media.lease.{token(session)}.{token(attempt)}"


def leases_of(session: str) -> str:
    """All leases of a session: the fence's scope."""
    return f"media.lease.{token(session)}.*"


def lease_end(session: str) -> str:
    """Where the record goes that closes a crawl for ever."""
    return lease(session, "end")


def direct(session: str, item: str) -> str:
    """Where a resolved item goes."""
    return f"media.direct.{token(session)}.{token(item)}"


def direct_of(session: str) -> str:
    """All resolved items of a session."""
    return f"media.direct.{token(session)}.*"


def record(session: str, kind: str, name: str | None = None) -> str:
    """Where a record of the session log goes; `name` is the signature or item that it is about."""
    subject = f"$KV.{RESULTS_BUCKET}.{token(session)}.{kind}"
    return subject if name is None else f"{subject}.{token(name)}"


def records_of(session: str) -> str:
    """All records of a session."""
    return f"$KV.{RESULTS_BUCKET}.{token(session)}.>"


def owned(owner: str, session: str) -> str:
    """Where it is recorded that a session is `owner`'s."""
    return record(_owner(owner), OWNED, session)


def owned_by(owner: str) -> str:
    """All sessions of an owner."""
    return f"$KV.{RESULTS_BUCKET}.{_owner(owner)}.{OWNED}.*"


def _owner(owner: str) -> str:
    """A token for any text; no session has such an id."""
    return f"owner-{blake2b(owner.encode(), digest_size=16).hexdigest()}"


def videos_of(session: str) -> str:
    """The records of a session's videos."""
    return f"{record(session, VIDEO)}.*"


def pace(lane: str) -> str:
    """Where the pace is kept of a lane of requests to a site."""
    return f"$KV.{PACE_BUCKET}.{token(lane)}"


def seen(scope: str, signature: str) -> str:
    """Where it is recorded which session of a scope gives a video."""
    return f"$KV.{SEEN_BUCKET}.{token(scope)}.{token(signature)}"


def records_of_all(kind: str) -> str:
    """The records of one kind, of all sessions."""
    return f"$KV.{RESULTS_BUCKET}.*.{kind}"


def named_records_of_all(kind: str) -> str:
    """The records of one kind that are about an item or a signature, of all sessions."""
    return f"{records_of_all(kind)}.*"


def access_key(id_: str) -> str:
    """Where an API key is kept, without its secret."""
    return f"$KV.{ACCESS_BUCKET}.{token(id_)}"


def rate(digest: str) -> str:
    """Where it is kept how fast a caller asks."""
    return f"$KV.{LIMITS_BUCKET}.rate.{token(digest)}"


def crowd(gateway: str) -> str:
    """Where a gateway tells of its connections."""
    return f"$KV.{LIMITS_BUCKET}.at.{token(gateway)}"


def ticket(digest: str) -> str:
    """Where a ticket is kept, by its digest."""
    return f"$KV.{TICKETS_BUCKET}.{token(digest)}"


def webhook(owner: str, place: str, session: str) -> str:
    """Where a session waits to be posted that `owner` began, or somebody without a name at `place`."""
    return f"webhooks.{_asker(owner, place)}.{token(session)}"


def webhooks_of(owner: str, place: str) -> str:
    """All of them."""
    return f"webhooks.{_asker(owner, place)}.*"


def _asker(owner: str, place: str) -> str:
    return _owner(owner) if owner else token(f"at-{place}")


def callback(session: str) -> str:
    """Where it is kept how far the posting of a session is."""
    return f"$KV.{CALLBACKS_BUCKET}.{token(session)}"


def cancel(session: str) -> str:
    """Where a cancel is told to whoever works on the session."""
    return f"search.cancel.{token(session)}"


def asked_of(service: str, replica: str) -> tuple[str, ...]:
    """Where a replica is asked, whatever is asked of it: of all services, of its own, of itself.

    One by one, for who may subscribe to `$SRV.*` may at a server subscribe to `$SRV.>` too.
    """
    return _asked(service, token(replica))


def all_asked_of(service: str) -> tuple[str, ...]:
    """Where any replica of a service is asked."""
    return _asked(service, "*")


def _asked(service: str, replica: str) -> tuple[str, ...]:
    name = SERVICES[service]
    return tuple(
        f"$SRV.{verb}{whom}" for verb in (PING, INFO, STATS) for whom in ("", f".{name}", f".{name}.{replica}")
    )


def verb_of(subject: str) -> str:
    """What is asked there."""
    return subject.split(".", 2)[1]


def stats(service: str, replica: str | None = None) -> str:
    """Where a service's replicas, or one of them, are asked for their figures."""
    subject = f"$SRV.{STATS}.{SERVICES[service]}"
    return subject if replica is None else f"{subject}.{token(replica)}"


def all_status(service: str) -> str:
    """Where the replicas of a service say unasked how they are."""
    return f"replica.status.{SERVICES[service]}.*"


def status(service: str, replica: str) -> str:
    """Where a replica says unasked how it is."""
    return f"replica.status.{SERVICES[service]}.{token(replica)}"


def suspect(stage: str, subject: str) -> str:
    """Where a message of `subject` waits that `stage` is to handle by itself, in a process of its own."""
    return f"quarantine.{token(stage)}.{subject}"


def suspects(stage: str) -> str:
    """All suspects of a stage."""
    return f"quarantine.{token(stage)}.>"


def suspects_of(session: str) -> tuple[str, ...]:
    """All suspects of a session, whatever their stage."""
    return tuple(f"quarantine.*.{pattern}" for pattern in (search(session), raw_of(session), direct_of(session)))


def original(subject: str) -> str:
    """What the subject of a suspect or of a dead letter was before."""
    return subject.split(".", 2)[2]


def dead_letter(stage: str, subject: str) -> str:
    """Where a message of `subject` is kept that `stage` could not handle."""
    return f"dead.{token(stage)}.{subject}"


def dead_letters_of(stage: str) -> str:
    """All dead letters of a stage."""
    return f"dead.{token(stage)}.>"


def inbox_prefix(user: str) -> str:
    """What the inboxes of a user of the broker begin with, so that no other can listen there."""
    return f"_INBOX_{token(user)}"


def session_in(subject: str) -> str:
    """The session that any subject above speaks of: its third token; empty where there is none."""
    return subject.split(".")[2] if subject.count(".") > 1 else ""


class RecordKey(NamedTuple):
    """The parts of a record's subject."""

    session: str
    kind: str
    name: str | None


def record_key(subject: str) -> RecordKey:
    """The parts of `$KV.results.<session>.<kind>[.<name>]`. Raises MalformedMessage."""
    parts = _parts(subject)
    return RecordKey(parts[2], parts[3], parts[4] if len(parts) > 4 else None)


def _parts(subject: str) -> list[str]:
    parts = subject.split(".")
    if len(parts) < 4:
        raise MalformedMessage(f"{subject[:80]!r} names no session and item")
    return parts


class ItemKey(NamedTuple):
    """The parts of a raw or direct subject."""

    session: str
    item: str


def item_key(subject: str) -> ItemKey:
    """The parts of `media.<stage>.<session>.<item>`. Raises MalformedMessage."""
    parts = _parts(subject)
    return ItemKey(parts[2], parts[3])


def items_in(found: Iterable[str]) -> set[str]:
    """The items of raw subjects; what is no token is nobody's item, for it can have no outcome."""
    return {item for subject in found if TOKEN.fullmatch(item := item_key(subject).item)}
