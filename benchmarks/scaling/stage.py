"""One stage alone: its queue is filled while its consumer is paused, and what comes out is counted and timed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from libs.common.bus import Bus
from libs.common.subjects import token
from tests.wait import wait_for, wait_until

IN_FLIGHT = 256
PAUSED_S = 600
PATIENCE_S = 120.0

Key = Callable[[str, bytes], tuple[str, str] | None]


class Given(NamedTuple):
    """A message to be laid in a stage's queue, and what what comes of it is known by: session and name."""

    subject: str
    body: bytes
    key: tuple[str, str]


def last_token(subject: str, _body: bytes) -> tuple[str, str]:
    """The key of what is told by its subject alone."""
    rest, _, name = subject.rpartition(".")
    return rest.rpartition(".")[2], name


class Listener:
    """When each thing came out of a stage first, by its key, heard by core NATS."""

    def __init__(self, key: Key) -> None:
        self.arrived: dict[tuple[str, str], float] = {}
        self._key = key

    async def heard(self, message: Any) -> None:
        """One message."""
        key = self._key(message.subject, message.data)
        if key is not None:
            self.arrived.setdefault(key, time.monotonic())

    async def have(self, count: int, what: str) -> None:
        """Returns when so many have come."""
        await wait_until(lambda: len(self.arrived) >= count, f"{count} of {what}", PATIENCE_S)


@asynccontextmanager
async def listening(bus: Bus, subject: str, key: Key) -> AsyncIterator[Listener]:
    """Hears what is published on `subject` meanwhile."""
    listener = Listener(key)
    subscription = await bus.subscribe(subject, listener.heard)
    await bus.settled()
    try:
        yield listener
    finally:
        await subscription.unsubscribe()


async def lay(bus: Bus, given: list[Given], at_s: list[float] | None = None) -> dict[tuple[str, str], float]:
    """Publishes, `at_s` from now where that is said; returns when each was handed over."""
    room = asyncio.Semaphore(IN_FLIGHT)
    sent: dict[tuple[str, str], float] = {}

    async def one(message: Given) -> None:
        sent[message.key] = time.monotonic()
        try:
            await bus.publish(message.subject, message.body, create=True)
        finally:
            room.release()

    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for n, message in enumerate(given):
            if at_s is not None and (wait_s := began + at_s[n] - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            await room.acquire()
            tasks.create_task(one(message))
    return sent


async def paused(bus: Bus, stream: str, durable: str, seconds: float) -> None:
    """Has the consumer give out nothing for so long; 0 lets it go on."""
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    request = {"pause_until": until.isoformat().replace("+00:00", "Z")} if seconds else {}
    await bus.api(f"CONSUMER.PAUSE.{token(stream)}.{token(durable)}", request)


class Queue(NamedTuple):
    """What a stage reads, and where what it makes is heard."""

    stream: str
    durable: str
    output: str
    key: Key

    async def surge(self, bus: Bus, given: list[Given], out: int, began: Callable[[], None]) -> float:
        """Seconds from the first delivery of a full queue to the last of `out` results; `began` is called at the first.

        A server takes half a second and more to go on with a consumer that was paused, which is not the stage's.
        """
        async with listening(bus, self.output, self.key) as listener:
            await paused(bus, self.stream, self.durable, PAUSED_S)
            await lay(bus, given)
            before = await self._delivered(bus)
            await paused(bus, self.stream, self.durable, 0)
            await wait_for(partial(self._delivers, bus, before), f"{self.durable} goes on", PATIENCE_S)
            began()
            at = time.monotonic()
            await listener.have(out, self.durable)
            return sorted(listener.arrived.values())[out - 1] - at

    async def _delivers(self, bus: Bus, before: int) -> bool:
        return await self._delivered(bus) > before

    async def _delivered(self, bus: Bus) -> int:
        info = await bus.api(f"CONSUMER.INFO.{token(self.stream)}.{token(self.durable)}")
        return int(info["delivered"]["consumer_seq"])

    async def paced(self, bus: Bus, given: list[Given], per_s: float) -> list[float]:
        """Seconds from each message to what comes of it first, when they come one after the other, `per_s` of them."""
        async with listening(bus, self.output, self.key) as listener:
            sent = await lay(bus, given, [n / per_s for n in range(len(given))])
            wanted = set(sent)
            await wait_until(lambda: wanted <= set(listener.arrived), f"all of {self.durable}", PATIENCE_S)
            return [listener.arrived[key] - at for key, at in sent.items()]
