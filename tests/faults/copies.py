"""A client that heard every message of a session and publishes them again, in any order, as often as it likes."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from libs.common import subjects
from libs.common.bus import EXPECTED_SEQUENCE, EXPECTED_SUBJECT, Bus
from libs.common.errors import AlreadyExists

HEARD = ("search.requests.*", subjects.ALL_RAW, subjects.ALL_DIRECT)


class Copies:
    """What was heard; `again` publishes all of it, without the conditions that the services set."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.heard: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.random = random.Random(3)
        self.accepted: dict[str, int] = {}  # by the first two tokens of the subject

    async def _hear(self, message: Any) -> None:
        headers = dict(message.headers or {})
        for condition in (EXPECTED_SEQUENCE, EXPECTED_SUBJECT):
            headers.pop(condition, None)
        self.heard.setdefault(message.subject, (message.data, headers))

    async def again(self) -> None:
        """Publishes everything once more, in another order; what still waits in its stream is refused."""
        names = list(self.heard)
        self.random.shuffle(names)
        for subject in names:
            body, headers = self.heard[subject]
            with suppress(AlreadyExists):
                await self.bus.publish(subject, body, headers=headers)
                kind = subject.rsplit(".", subject.count(".") - 1)[0]
                self.accepted[kind] = self.accepted.get(kind, 0) + 1


@asynccontextmanager
async def copies(bus: Bus) -> AsyncIterator[Copies]:
    """Hears all messages meanwhile."""
    heard = Copies(bus)
    subscriptions = [await bus.subscribe(subject, heard._hear) for subject in HEARD]
    yield heard
    for subscription in subscriptions:
        await subscription.unsubscribe()


async def settled(bus: Bus) -> bool:
    """Whether every durable has handled all that its stream holds for it, requests waiting for their deadline apart."""
    for stream, durable in (
        (subjects.SEARCHES, subjects.CRAWLER),
        (subjects.RAW, subjects.TRANSFORMER),
        (subjects.DIRECT, subjects.DEDUP),
    ):
        info = await bus.api(f"CONSUMER.INFO.{stream}.{durable}")
        if info["num_pending"] or info["num_ack_pending"]:
            return False
    return True
