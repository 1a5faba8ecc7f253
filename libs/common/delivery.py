"""One message as a consumer of a stream was given it."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class Delivery(NamedTuple):
    """One message as it was delivered. `delivered` counts from 1; `stored_at` is seconds since 1970, broker's clock."""

    subject: str
    body: bytes
    headers: dict[str, str]
    delivered: int
    sequence: int
    consumer_sequence: int
    stored_at: float
    ack_subject: str


ACK_PREFIX = "$JS.ACK."


def is_delivery(reply: str) -> bool:
    """Whether a message with this reply subject comes out of a stream: what a consumer itself says has another."""
    return reply.startswith(ACK_PREFIX)


def delivery_of(subject: str, body: bytes, headers: dict[str, str] | None, reply: str) -> Delivery:
    """The delivery that a reply subject `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.…` describes."""
    parts = reply.split(".")
    at = 4 if len(parts) <= 9 else 6
    delivered, sequence, consumer_sequence, stored_ns = map(int, parts[at : at + 4])
    stored_at = stored_ns // 1000 / 1e6
    return Delivery(subject, body, headers or {}, delivered, sequence, consumer_sequence, stored_at, reply)


def seconds(iso: str) -> float:
    """Seconds since 1970 of a time as the broker writes it, to the microsecond, as `stored_at` of a delivery is."""
    return datetime.fromisoformat(iso).timestamp()
