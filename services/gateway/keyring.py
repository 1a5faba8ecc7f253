"""All API keys, as the bucket has them: read at the start, then followed, so that a revocation is known at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog

from libs.common import subjects
from libs.common.bus import LAG_S, PATIENCE_S, Bus, Stored
from libs.common.errors import BrokerUnavailable
from libs.common.keys import KEY, key_of, stored_keys, usable, valid
from libs.common.messages import AccessKey
from libs.common.tail import Tail
from libs.common.tasks import end

log = structlog.get_logger()


class Keyring:
    """Use `keyring`. While the broker is away, what was known last holds."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.tail = Tail(bus, subjects.ACCESS, subjects.ALL_ACCESS_KEYS, self._changed)
        self._keys: dict[str, AccessKey] = {}
        self._sequences: dict[str, int] = {}
        self._holders: dict[str, set[Callable[[], None]]] = {}

    def key(self, text: str) -> AccessKey | None:
        """The key that `text` is, if it may be used now."""
        parts = KEY.fullmatch(text)
        if parts is None:
            return None
        key = self._keys.get(parts["id"])
        return key if usable(key, parts["secret"], time.time()) else None

    def valid(self, id_: str) -> bool:
        """Whether the key of that id may be used now."""
        key = self._keys.get(id_)
        return key is not None and valid(key, time.time())

    @contextmanager
    def held(self, id_: str, on_revoked: Callable[[], None]) -> Iterator[None]:
        """Calls `on_revoked` when the key of that id may no longer be used, as long as the context lasts."""
        holders = self._holders.setdefault(id_, set())
        holders.add(on_revoked)
        if not self.valid(id_):
            on_revoked()
        try:
            yield
        finally:
            holders.discard(on_revoked)
            if not holders and self._holders.get(id_) is holders:
                del self._holders[id_]

    async def load(self) -> None:
        """Returns when all that the bucket holds now is known, though a replica lags."""
        await self.tail.start()
        newest = await self.bus.last(subjects.ACCESS, subjects.ALL_ACCESS_KEYS)
        goal = 0 if newest is None else newest.sequence
        end_at = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            reached = 0
            async for stored in stored_keys(self.bus):
                self._changed(stored)
                reached = stored.sequence
            if reached >= goal:
                return
            if asyncio.get_running_loop().time() > end_at:
                raise BrokerUnavailable(f"no replica of {subjects.ACCESS} has record {goal} yet")
            await asyncio.sleep(LAG_S)

    def _changed(self, stored: Stored) -> None:
        id_ = stored.subject.rsplit(".", 1)[-1]
        if stored.sequence <= self._sequences.get(id_, 0):
            return
        self._sequences[id_] = stored.sequence
        key = key_of(stored)
        if key is None:
            self._keys.pop(id_, None)
        else:
            self._keys[id_] = key
        if not self.valid(id_) and (holders := self._holders.get(id_)):
            log.info("a key is revoked; its connections are closed", key=id_, connections=len(holders))
            for on_revoked in list(holders):
                on_revoked()


@asynccontextmanager
async def keyring(bus: Bus) -> AsyncIterator[Keyring]:
    """A keyring that is kept up to date meanwhile."""
    ring = Keyring(bus)
    await ring.load()
    task = asyncio.create_task(ring.tail.run(), name="keyring")
    try:
        yield ring
    finally:
        await end(task)
