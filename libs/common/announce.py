"""A replica tells of itself by the NATS micro protocol: that it is there, what it takes and has done, and how it is.

It answers who asks, and says its figures unasked as it begins, as it starts to stop and when it is done, so that one
that was stopped is told from one that was lost.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import structlog

from libs.common import micro, subjects
from libs.common.bus import Bus
from libs.common.errors import BrokerUnavailable
from libs.common.health import Checks
from libs.common.last_error import last_error
from libs.common.settings import Settings
from libs.common.tally import Failure, Tally
from libs.common.tasks import end
from libs.common.version import VERSION

TYPE = "io.nats.micro.v1.{}_response"
DESCRIPTIONS = {
    subjects.GATEWAY: "clients' way in and the results' way out",
    subjects.CRAWLER: "reads the site and emits raw media",
    subjects.TRANSFORMER: "turns raw media into verified direct links",
    subjects.DEDUP: "gives every item its outcome",
}

Fact = Callable[[], int | float | str]

log = structlog.get_logger()


class Endpoint(NamedTuple):
    """A kind of work that a replica does on what comes on `subject`, at most so much at once."""

    name: str
    subject: str
    tally: Tally
    group: str = ""
    most: int | None = None


class Announcement:
    """Use `announced`. `gone` is what a gateway knows of others that are no more."""

    def __init__(
        self,
        bus: Bus,
        service: str,
        settings: Settings,
        endpoints: Sequence[Endpoint],
        checks: Checks,
        facts: Mapping[str, Fact],
    ) -> None:
        self.bus, self.service = bus, service
        self.endpoints, self.checks, self.facts = endpoints, checks, facts
        self.id = secrets.token_hex(10)
        self.state = micro.RUNNING
        self.gone: Callable[[], tuple[micro.Gone, ...]] = tuple
        self.asked = Tally()
        self.started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        host = socket.gethostname()
        self.metadata = {"replica": settings.replica_name or host, "host": host, "pid": str(os.getpid())}

    async def answer(self, message: Any) -> None:
        """What was asked; what is asked without a reply or by another verb has no answer."""
        verb = subjects.verb_of(message.subject)
        documents = {subjects.PING: self.ping, subjects.INFO: self.info, subjects.STATS: self.stats}
        if verb not in documents or not message.reply:
            return
        with suppress(BrokerUnavailable), self.asked.working(BrokerUnavailable):  # who asked will ask again
            await self.bus.tell(message.reply, msgspec.json.encode(documents[verb]()))

    async def say(self, state: str) -> None:
        """Tells all, unasked, of a state that begins."""
        self.state = state
        try:
            await self.bus.tell(subjects.status(self.service, self.id), msgspec.json.encode(self.stats()))
        except BrokerUnavailable as error:
            log.info("nobody is told how this replica is", state=state, error=str(error))

    def ping(self) -> micro.Ping:
        """That it is there."""
        return micro.Ping(**self._identity("ping"))

    def info(self) -> micro.Info:
        """What it does."""
        found = [
            micro.EndpointInfo(name=one.name, subject=one.subject, queue_group=one.group) for one in self.endpoints
        ]
        found.append(micro.EndpointInfo(name=micro.HEALTH, subject=self._own))
        return micro.Info(**self._identity("info"), description=DESCRIPTIONS[self.service], endpoints=found)

    def stats(self) -> micro.Stats:
        """What it has done, and how it is."""
        found = [
            _stats(one, micro.Work(busy=one.tally.busy, most=one.most, last_failure=one.tally.last_failure))
            for one in self.endpoints
        ]
        found.append(_stats(Endpoint(micro.HEALTH, self._own, self.asked), self._health()))
        return micro.Stats(**self._identity("stats"), started=self.started, endpoints=found)

    def _health(self) -> micro.Health:
        return micro.Health(
            state=self.state,
            checks={name: bool(check()) for name, check in self.checks.items()},
            memory_bytes=memory_bytes(),
            facts={name: fact() for name, fact in self.facts.items()},
            last_error=self._last_error(),
            gone=self.gone(),
        )

    def _last_error(self) -> Failure | None:
        told = [last_error(), *(one.tally.last_failure for one in self.endpoints)]
        return max((one for one in told if one is not None), key=lambda one: one.at, default=None)

    @property
    def _own(self) -> str:
        return subjects.stats(self.service, self.id)

    def _identity(self, kind: str) -> dict[str, Any]:
        return {
            "type": TYPE.format(kind),
            "name": subjects.SERVICES[self.service],
            "id": self.id,
            "version": VERSION,
            "metadata": self.metadata,
        }


def _stats(endpoint: Endpoint, data: msgspec.Struct) -> micro.EndpointStats:
    tally = endpoint.tally
    return micro.EndpointStats(
        name=endpoint.name,
        subject=endpoint.subject,
        queue_group=endpoint.group,
        num_requests=tally.done,
        num_errors=tally.failures,
        last_error=tally.last_failure.message if tally.last_failure else "",
        processing_time=tally.took_ns,
        average_processing_time=tally.took_ns // tally.done if tally.done else 0,
        data=msgspec.Raw(msgspec.json.encode(data)),
    )


def memory_bytes() -> int:
    """Of this process, without its children: what is resident; on macOS the most that ever was, on Windows 0."""
    if sys.platform == "win32":
        return 0
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, ValueError, IndexError):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


@asynccontextmanager
async def announced(
    bus: Bus,
    service: str,
    settings: Settings,
    stop: asyncio.Event,
    checks: Checks,
    *endpoints: Endpoint,
    facts: Mapping[str, Fact] | None = None,
) -> AsyncIterator[Announcement]:
    """Answers meanwhile; when `stop` is set it says so, and at the end that it is done."""
    announcement = Announcement(bus, service, settings, endpoints, checks, facts or {})

    async def stopping() -> None:
        await stop.wait()
        await announcement.say(micro.STOPPING)

    subscriptions = [
        await bus.subscribe(subject, announcement.answer) for subject in subjects.asked_of(service, announcement.id)
    ]
    await bus.settled()  # whoever asks from now on is heard
    await announcement.say(micro.RUNNING)
    watching = asyncio.create_task(stopping(), name="announce the end")
    try:
        yield announcement
    finally:
        await end(watching)
        await announcement.say(micro.STOPPED)
        with suppress(Exception):  # the link is down: the subscriptions are gone with it, and that was logged
            for subscription in subscriptions:
                await subscription.unsubscribe()
