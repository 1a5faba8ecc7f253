"""The quarantine: suspects in a process of their own, which may die of them.

The broker counts deliveries, not failures: beside a message that ends its process, innocent ones use theirs up too. So
what was delivered several times without an answer is moved here, and only here is it found out which of them it was.
A child process of the service (`suspects.py`) handles them, several at once, for under constant kills nearly all are
innocent; its parent (`Quarantine`) sees it die, and from then on handles those that it had in hand one by one. What
fails alone is counted, and given up. The broker's trouble is not counted, nor the death of the parent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from libs.common import subjects
from libs.common.bus import Bus
from libs.common.dead_letters import restored
from libs.common.delivery import Delivery
from libs.common.handling import GaveUp, Handling
from libs.common.settings import Settings
from libs.common.suspects import Child, ChildDied, SuspectFailed
from libs.common.tally import Tally

MAX_FAILURES = 3
IDLE_S = 60.0  # after which the child is ended: it holds the memory of a second service

log = structlog.get_logger()


class Quarantine:
    """Answers a stage's suspects by a child that runs `module`; `gave_up` is told of those that failed for good.

    The child gets `settings`; `limit_s` is how long one message may take. Use `quarantine`.
    """

    def __init__(
        self,
        bus: Bus,
        stage: str,
        template: str,
        gave_up: GaveUp,
        module: str,
        settings: Settings,
        limit_s: float,
    ) -> None:
        self.module, self.settings, self.limit_s = module, settings, limit_s
        self.handling = Handling(bus, stage, template, self._handle, gave_up, max_failures=MAX_FAILURES)
        self._child: Child | None = None
        self._starting = asyncio.Lock()
        self._alone: set[int] = set()  # stream sequences of those in whose company a child has died
        self._gate = asyncio.Lock()  # held by one that is handled alone
        self._together = 0  # handled now, in company
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._busy = 0  # asked of the child, or about to be
        self._idle: asyncio.TimerHandle | None = None

    @property
    def tally(self) -> Tally:
        """Of the suspects."""
        return self.handling.tally

    async def answer(self, delivery: Delivery) -> bytes | None:
        """What `libs.common.pull` tells the broker of a suspect."""
        return await self.handling.answer(_restored(delivery))

    async def _handle(self, delivery: Delivery) -> None:
        sequence = delivery.sequence
        if sequence not in self._alone:
            try:
                async with self._in_company():
                    return await self._ask(delivery)
            except ChildDied as died:
                log.warning("a process for suspects died in company", subject=delivery.subject, how=str(died))
                self._alone.add(sequence)
        async with self._by_itself():
            await self._ask(delivery)
        self._alone.discard(sequence)

    @asynccontextmanager
    async def _in_company(self) -> AsyncIterator[None]:
        async with self._gate:
            self._together += 1
            self._quiet.clear()
        try:
            yield
        finally:
            self._together -= 1
            if self._together == 0:
                self._quiet.set()

    @asynccontextmanager
    async def _by_itself(self) -> AsyncIterator[None]:
        async with self._gate:
            await self._quiet.wait()
            try:
                yield
            except ChildDied as died:
                raise SuspectFailed(str(died)) from died

    async def _ask(self, delivery: Delivery) -> None:
        self._busy += 1
        if self._idle is not None:
            self._idle.cancel()
        try:
            child = await self._running()
            async with asyncio.timeout(self.limit_s):
                await child.ask(delivery)
        except TimeoutError:
            if self._child is not None:
                self._child.kill()
            raise SuspectFailed(f"it was not done within {self.limit_s:g} s") from None
        finally:
            self._busy -= 1
            if self._busy == 0:
                self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._retire)

    async def _running(self) -> Child:
        async with self._starting:
            if self._child is None or not self._child.alive:
                await self._end_child()
                self._child = await Child.start(self.module, self.settings)
                log.info("a process for suspects runs", module=self.module, pid=self._child.pid)
            return self._child

    def _retire(self) -> None:
        if self._child is not None:
            self._child.dismiss()

    async def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.end()

    async def close(self) -> None:
        """Ends the child."""
        if self._idle is not None:
            self._idle.cancel()
        await self._end_child()


@asynccontextmanager
async def quarantine(
    bus: Bus, stage: str, template: str, gave_up: GaveUp, module: str, settings: Settings, limit_s: float
) -> AsyncIterator[Quarantine]:
    """A stage's quarantine, whose child is ended at the end."""
    lane = Quarantine(bus, stage, template, gave_up, module, settings, limit_s)
    try:
        yield lane
    finally:
        await lane.close()


def _restored(delivery: Delivery) -> Delivery:
    """A suspect as it was before it was moved."""
    return delivery._replace(subject=subjects.original(delivery.subject), headers=restored(delivery.headers))
