"""The crowd: how many connections there are from each address, at all gateways.

Each gateway tells the others of its own in one record, and says so again while it lives; what was not said again for a
while is of a gateway that is gone, and so are its connections.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog

from libs.common import subjects
from libs.common.bus import Bus, Stored
from libs.common.errors import MalformedMessage, PinstreamError
from libs.common.frames import ErrorCode
from libs.common.messages import AtPlace, decode, encode
from libs.common.messages import Crowd as CrowdRecord
from libs.common.tail import Tail
from libs.common.tasks import end
from services.gateway.limits import Limited

TELL_EVERY_S = 0.5  # while it changes
AGAIN_S = 5.0  # while it does not
GONE_S = 15.0
MOST_PLACES = 5_000  # told to others: those with most connections
COME_BACK_S = 5.0

log = structlog.get_logger()


class Crowd:
    """Use `crowd`."""

    def __init__(self, bus: Bus, per_place: int, most: int) -> None:
        self.bus = bus
        self.per_place, self.most = per_place, most
        self.gateway = secrets.token_hex(8)
        self.tail = Tail(bus, subjects.LIMITS, subjects.ALL_CROWDS, self._heard)
        self._mine: Counter[str] = Counter()
        self._open = 0
        self._others: dict[str, tuple[float, dict[str, int]]] = {}
        self._changed = asyncio.Event()

    @property
    def here(self) -> int:
        """How many connections this gateway has."""
        return self._open

    def count(self, place: str) -> int:
        """How many connections there are from a place."""
        now = time.monotonic()
        others = sum(told.get(place, 0) for at, told in self._others.values() if now - at < GONE_S)
        return self._mine[place] + others

    @contextmanager
    def joined(self, place: str) -> Iterator[None]:
        """One more connection, as long as the context lasts. Raises Limited."""
        if self._open >= self.most:
            raise Limited(ErrorCode.RATE_LIMITED, "this gateway has as many connections as it can serve", COME_BACK_S)
        if place and self.count(place) >= self.per_place:
            raise Limited(ErrorCode.RATE_LIMITED, "too many connections from this address", COME_BACK_S)
        self._open += 1
        self._move(place, 1)
        try:
            yield
        finally:
            self._open -= 1
            self._move(place, -1)

    def _move(self, place: str, by: int) -> None:
        if place:
            self._mine[place] += by
            if self._mine[place] <= 0:
                del self._mine[place]
            self._changed.set()

    def _heard(self, stored: Stored) -> None:
        gateway = stored.subject.rsplit(".", 1)[-1]
        if gateway == self.gateway:
            return
        try:
            told = {one.place: one.count for one in decode(stored.body, CrowdRecord).connections}
        except MalformedMessage as error:
            log.warning("the crowd of a gateway cannot be read", gateway=gateway, error=str(error))
            return
        if told:
            self._others[gateway] = time.monotonic(), told
        else:
            self._others.pop(gateway, None)

    async def tell(self) -> None:
        """Until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                told = tuple(AtPlace(place, count) for place, count in self._mine.most_common(MOST_PLACES))
                record = encode(CrowdRecord(connections=told))
                await self.bus.publish(subjects.crowd(self.gateway), record, patience_s=AGAIN_S)
            except PinstreamError as error:
                log.warning("the others are not told of the connections here", error=str(error))
                self._changed.set()
            await asyncio.sleep(TELL_EVERY_S)
            if self._mine and not self._changed.is_set():
                asyncio.get_running_loop().call_later(AGAIN_S, self._changed.set)


@asynccontextmanager
async def crowd(bus: Bus, per_place: int, most: int) -> AsyncIterator[Crowd]:
    """The crowd as it is told of meanwhile."""
    found = Crowd(bus, per_place, most)  # its tail begins at the start: what gateways said last is part of it
    tasks = [asyncio.create_task(found.tail.run(), name="crowd"), asyncio.create_task(found.tell(), name="tell crowd")]
    try:
        yield found
    finally:
        await end(*tasks)
