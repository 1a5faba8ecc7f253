"""A client that publishes other people's messages a second time, later and in another order."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from random import Random
from typing import Any

from libs.common import subjects
from libs.common.bus import Bus, Stored
from libs.common.errors import BrokerUnavailable, PublishRefused
from libs.common.tail import Tail
from libs.common.tasks import end

SHARE = 0.3  # of the messages that pass while it is on
MOST_KEPT = 500
EVERY_S = 0.1
CHANCE = 0.02  # of each kept message each time: they come 5 s later on average
PATIENCE_S = 2.0


class Copies:
    """Copies while `on`. Raw media are taken from the stream, so that none is copied which a fence kept out of it."""

    def __init__(self, bus: Bus, rng: Random) -> None:
        self.bus, self.rng = bus, rng
        self.on = False
        self.counts: Counter[str] = Counter()
        self._kept: list[tuple[str, bytes, dict[str, str]]] = []

    async def run(self) -> None:
        """Until cancelled."""
        tail = Tail(self.bus, subjects.RAW, subjects.ALL_RAW, self._stored)
        await tail.start()
        tailing = asyncio.create_task(tail.run(), name="tail of raw media")
        subscriptions = [
            await self.bus.subscribe(pattern, self._passed) for pattern in (subjects.ALL_SEARCHES, subjects.ALL_DIRECT)
        ]
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                await self._publish_some()
        finally:
            with suppress(Exception):
                for subscription in subscriptions:
                    await subscription.unsubscribe()
            await end(tailing)

    def _stored(self, stored: Stored) -> None:
        self._keep(stored.subject, stored.body, stored.headers)

    async def _passed(self, message: Any) -> None:
        self._keep(message.subject, message.data, message.headers or {})

    def _keep(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        if self.on and len(self._kept) < MOST_KEPT and self.rng.random() < SHARE:
            own = {name: value for name, value in headers.items() if not name.lower().startswith("nats-")}
            self._kept.append((subject, body, own))

    async def _publish_some(self) -> None:
        chosen = [message for message in self._kept if self.rng.random() < CHANCE]
        self._kept = [message for message in self._kept if message not in chosen]
        self.rng.shuffle(chosen)
        for subject, body, headers in chosen:
            try:
                await self.bus.publish(subject, body, headers=headers, patience_s=PATIENCE_S)
                self.counts["stored again"] += 1
            except PublishRefused:
                self.counts["refused"] += 1
            except BrokerUnavailable:
                self.counts["lost"] += 1
