"""`/v1/status`: every replica of every service, the queues between them, and the sessions under way, as of now."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from libs.common import subjects
from libs.common.micro import Work
from libs.common.tally import Failure
from services.gateway.callers import Caller, caller_of
from services.gateway.census import Census
from services.gateway.queues import Queue, Queues, Stream
from services.gateway.replicas import LOST, READY, STOPPED, Pace, Replica, Replicas
from services.gateway.settings import GatewaySettings
from services.gateway.storage import UNREACHABLE, Storage

STALE_S = 3.0  # a gateway answers itself each second
SHORT = 8  # characters of an id, as which those are shown who may not be named

StateName = Annotated[str, Meta(description="`ready`, `unready`, `stopping`, `stopped` or `lost`")]


class LastError(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong last, without secrets and ids; `at` is ISO 8601 in UTC."""

    message: str
    at: str


class EndpointStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of work. `busy` is in hand, at most `most`; `done` and `failures` count from the start.

    `per_second`, `failures_per_second` and `latency_ms`, the mean time of a piece of work, are of the last ten seconds;
    null where that is not known, the latency also where nothing was done.
    """

    name: str
    subject: str
    busy: int
    most: int | None
    done: int
    failures: int
    per_second: float | None
    failures_per_second: float | None
    latency_ms: float | None
    last_error: LastError | None = None


class ReplicaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a service; `silent_s` is how long ago it said anything.

    `ready`: its `checks`, those of `/readyz`, all hold; `unready`: they do not; `stopping`: it finishes what it has;
    `stopped`: it said so; `lost`: it answers no more. `host` and `pid` are null, `replica` is made up and errors are
    left out for a caller who may not know.
    """

    id: str
    replica: str
    state: StateName
    silent_s: float
    version: str
    started_at: str
    host: str | None
    pid: int | None
    memory_bytes: int | None
    checks: dict[str, bool]
    facts: dict[str, int | float | str]
    endpoints: list[EndpointStatus]
    last_error: LastError | None


class StageStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of work of all replicas of a service that are there, added up."""

    name: str
    busy: int
    most: int | None
    per_second: float | None
    failures_per_second: float | None
    latency_ms: float | None


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A service; `ready` is how many of its replicas can take work."""

    service: str
    ready: int
    stages: list[StageStatus]
    replicas: list[ReplicaStatus]


class BrokerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The broker as this gateway finds it; `trouble` says what is the matter."""

    connected: bool
    trouble: str | None


class SessionsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The sessions under way, of all gateways, by state."""

    running: int
    states: dict[str, int]


class SystemStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The whole at `now`. `stale`: the broker is away or silent, and the rest is as it was at `heard_at`.

    `reduced`: names of hosts and errors are left out, for the caller has no key.
    """

    now: str
    heard_at: str | None
    stale: bool
    reduced: bool
    answered_by: str | None
    broker: BrokerStatus
    sessions: SessionsStatus
    services: list[ServiceStatus]
    queues: list[Queue]
    streams: list[Stream]


class Status:
    """What is shown to a caller."""

    def __init__(
        self, settings: GatewaySettings, replicas: Replicas, queues: Queues, storage: Storage, census: Census | None
    ) -> None:
        self.replicas, self.queues = replicas, queues
        self.storage, self.census = storage, census
        self.reserved = not settings.here_alone  # who has no name is told less
        self.name = settings.replica_name

    async def answer(self, request: Request) -> Response:
        """`GET /v1/status`"""
        document = await self.of(caller_of(request.scope))
        return Response(
            msgspec.json.encode(document), headers={"Cache-Control": "no-store"}, media_type="application/json"
        )

    async def of(self, caller: Caller) -> SystemStatus:
        """The whole, as `caller` may see it."""
        depths = await self.queues.look()
        now, wall = time.monotonic(), time.time()
        connected = self.replicas.bus.connected
        reduced = self.reserved and not caller.owner
        states = {} if self.census is None else self.census.states()
        heard_at = self.replicas.heard_at
        return SystemStatus(
            now=_iso(wall),
            heard_at=_iso(heard_at) if heard_at else None,
            stale=not connected or 0 < heard_at < wall - STALE_S,
            reduced=reduced,
            answered_by=None if reduced else self.name,
            broker=BrokerStatus(connected=connected, trouble=self.storage.trouble if connected else UNREACHABLE),
            sessions=SessionsStatus(running=sum(states.values()), states=states),
            services=[self._service(service, now, wall, reduced) for service in subjects.SERVICES],
            queues=list(depths.queues),
            streams=list(depths.streams),
        )

    def _service(self, service: str, now: float, wall: float, reduced: bool) -> ServiceStatus:
        found = [(one, one.state(now)) for one in self.replicas.all() if one.service == service]
        there = [one for one, state in found if state not in (LOST, STOPPED)]
        return ServiceStatus(
            service=service,
            ready=sum(state == READY for _, state in found),
            stages=_stages(there),
            replicas=[_shown(one, state, wall, reduced) for one, state in found],
        )


def _shown(replica: Replica, state: str, wall: float, reduced: bool) -> ReplicaStatus:
    there = replica.stats is not None and state not in (LOST, STOPPED)
    pid, health = replica.metadata.get("pid", ""), replica.health
    return ReplicaStatus(
        id=replica.id,
        replica=replica.id[:SHORT] if reduced else replica.metadata.get("replica") or replica.id[:SHORT],
        state=state,
        silent_s=round(max(0.0, wall - replica.heard_at), 1),
        version=replica.version,
        started_at=replica.started,
        host=None if reduced else replica.metadata.get("host"),
        pid=int(pid) if pid.isdigit() and not reduced else None,
        memory_bytes=health.memory_bytes if there else None,
        checks=health.checks if there else {},
        facts=health.facts if there else {},
        endpoints=_endpoints(replica, reduced) if there else [],
        last_error=_error(replica.last_error, reduced),
    )


def _endpoints(replica: Replica, reduced: bool) -> list[EndpointStatus]:
    assert replica.stats is not None
    found = []
    for one, work in replica.stats.work():
        pace = replica.pace(one.name)
        found.append(
            EndpointStatus(
                name=one.name,
                subject=one.subject,
                busy=work.busy,
                most=work.most,
                done=one.num_requests,
                failures=one.num_errors,
                per_second=None if pace is None else round(pace.per_second, 3),
                failures_per_second=None if pace is None else round(pace.failures_per_second, 3),
                latency_ms=None if pace is None else _rounded(pace.latency_ms),
                last_error=_error(work.last_failure, reduced),
            )
        )
    return found


def _stages(replicas: list[Replica]) -> list[StageStatus]:
    works: dict[str, list[tuple[Work, Pace | None]]] = {}
    for replica in replicas:
        for one, work in replica.stats.work() if replica.stats else []:
            works.setdefault(one.name, []).append((work, replica.pace(one.name)))
    return [_stage(name, found) for name, found in works.items()]


def _stage(name: str, found: list[tuple[Work, Pace | None]]) -> StageStatus:
    paces = [pace for _, pace in found if pace is not None]
    bounds = [work.most for work, _ in found if work.most is not None]
    done = sum(pace.per_second for pace in paces)
    took = sum(pace.per_second * (pace.latency_ms or 0.0) for pace in paces)
    return StageStatus(
        name=name,
        busy=sum(work.busy for work, _ in found),
        most=sum(bounds) if bounds else None,
        per_second=round(done, 3) if paces else None,
        failures_per_second=round(sum(pace.failures_per_second for pace in paces), 3) if paces else None,
        latency_ms=_rounded(took / done) if done else None,
    )


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)


def _error(failure: Failure | None, reduced: bool) -> LastError | None:
    return None if failure is None or reduced else LastError(message=failure.message, at=_iso(failure.at))


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
