"""The documents of the NATS micro protocol (ADR-32 of nats-architecture-and-design), by which services tell of
themselves: `nats micro ls` and whatever else speaks it understands them.

`data` of an endpoint is free by the protocol. The endpoint HEALTH, which each replica has, carries Health there, the
others Work.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from libs.common.errors import MalformedMessage
from libs.common.tally import Failure

HEALTH = "health"
Name = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]+$")]

RUNNING, STOPPING, STOPPED = "running", "stopping", "stopped"


class Work(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much of its work an endpoint has in hand now, and may have at most."""

    busy: int = 0
    most: int | None = None
    last_failure: Failure | None = None


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """A replica that answers no more, as one gateway tells the others; times are seconds since 1970."""

    name: str
    id: str
    version: str
    metadata: dict[str, str]
    started: str
    state: str
    heard_at: float
    last_error: Failure | None = None


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How a replica is. `state` is RUNNING, STOPPING or STOPPED; `checks` are those of `/readyz`."""

    state: str = RUNNING
    checks: dict[str, bool] = {}
    memory_bytes: int = 0
    facts: dict[str, int | float | str] = {}
    last_error: Failure | None = None
    gone: tuple[Gone, ...] = ()  # of a gateway


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What every document begins with."""

    type: str
    name: Name
    id: str
    version: str
    metadata: dict[str, str] = {}


class Ping(Identity, frozen=True, kw_only=True):
    """That it is there."""


class EndpointInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint takes."""

    name: Name
    subject: str
    queue_group: str = ""
    metadata: dict[str, str] = {}


class Info(Identity, frozen=True, kw_only=True):
    """What it does."""

    description: str
    endpoints: list[EndpointInfo]


class EndpointStats(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint has done since its service was started; times are nanoseconds."""

    name: Name
    subject: str
    queue_group: str = ""
    num_requests: int = 0
    num_errors: int = 0
    last_error: str = ""
    processing_time: int = 0
    average_processing_time: int = 0
    data: msgspec.Raw = msgspec.Raw(b"null")


class Stats(Identity, frozen=True, kw_only=True):
    """What it has done; `started` is ISO 8601 in UTC."""

    started: str
    endpoints: list[EndpointStats] = []

    def health(self) -> Health:
        """How the replica is. Raises MalformedMessage."""
        data = next((one.data for one in self.endpoints if one.name == HEALTH), None)
        return Health() if data is None else _decoded(data, Health)

    def work(self) -> list[tuple[EndpointStats, Work]]:
        """Its endpoints but HEALTH. Raises MalformedMessage."""
        return [(one, _decoded(one.data, Work)) for one in self.endpoints if one.name != HEALTH]


D = TypeVar("D")
_stats = msgspec.json.Decoder(Stats)


def stats_in(body: bytes) -> Stats:
    """The figures in an answer. Raises MalformedMessage."""
    try:
        return _stats.decode(body)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise MalformedMessage(f"no answer of the micro protocol: {error}") from error


def _decoded(data: msgspec.Raw, type_: type[D]) -> D:
    try:
        return msgspec.json.decode(data, type=type_)
    except msgspec.DecodeError as error:
        raise MalformedMessage(f"no {type_.__name__}: {error}") from error
