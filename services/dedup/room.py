"""Room in the session log: before it is full the oldest sessions that are over go, so that new ones can begin."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import structlog

from libs.common import subjects
from libs.common.bus import Bus
from libs.common.errors import MalformedMessage, PinstreamError
from libs.common.messages import RequestRecord, decode
from libs.common.tasks import end
from services.dedup.deadline import GRACE_S

CHECK_S = 15.0
FULL, ENOUGH = 0.85, 0.70  # of the bucket's bytes: from the one on room is made, down to the other
SPARE_S = 60.0  # after its deadline, for clients that come back
READ_BATCH = 256
BETWEEN_LOOKS = 32  # sessions

log = structlog.get_logger()


class Room:
    """Makes room in the session log where it is short."""

    def __init__(self, bus: Bus, spare_s: float = SPARE_S) -> None:
        self.bus = bus
        self.spare_s = spare_s

    async def run(self, stop: asyncio.Event) -> None:
        """Looks from time to time, until `stop`; replicas do so at different times."""
        looking = asyncio.create_task(self._look(), name="make room")
        stopping = asyncio.create_task(stop.wait(), name="stop making room")
        try:
            await asyncio.wait({looking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if looking.done():
                looking.result()
        finally:
            await end(looking, stopping)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S * random.uniform(0.5, 1.5))
            try:
                await self.make()
            except PinstreamError as error:
                log.warning("cannot make room in the session log now", error=str(error))

    async def make(self) -> int:
        """Removes the logs of the oldest sessions if the bucket is nearly full; returns how many went."""
        if await self._share() < FULL:
            return 0
        gone = 0
        async for session in self._over():
            gone += await self.bus.purge(subjects.RESULTS, subjects.records_of(session)) > 0
            if gone % BETWEEN_LOOKS == 0 and await self._share() < ENOUGH:
                break
        share = await self._share()
        said = log.warning if share < FULL else log.error
        said("the session log is short of room; the oldest sessions went", sessions=gone, full=round(share, 2))
        return gone

    async def _share(self) -> float:
        info = await self.bus.api(f"STREAM.INFO.{subjects.RESULTS}")
        most = info["config"].get("max_bytes", -1)
        return float(info["state"]["bytes"]) / most if most > 0 else 0.0

    async def _over(self) -> AsyncIterator[str]:
        """The sessions whose deadline is well past by the broker's clock, the oldest first."""
        now = await self.bus.clock(subjects.RESULTS)
        after = 0
        while batch := await self.bus.read(subjects.RESULTS, subjects.ALL_REQUEST_RECORDS, after + 1, READ_BATCH):
            for stored in batch:
                after = stored.sequence
                session = subjects.session_in(stored.subject)
                if not subjects.TOKEN.fullmatch(session):
                    continue  # nobody's
                try:
                    deadline_s = decode(stored.body, RequestRecord).request.deadline_s
                except MalformedMessage:
                    deadline_s = 0.0  # nobody can serve it
                if stored.stored_at + deadline_s + GRACE_S + self.spare_s > now:
                    return
                yield session
