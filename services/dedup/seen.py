"""Which session of a scope gives a video: one alone, and if that one never does, the next.

Two records in two streams cannot be written at once, so a claim is made first (`SeenRecord`), then the video's record,
then the claim is marked as given. What is not marked is judged by its session's log: the video counts there, or the
session is over without it and the claim is void, or the session is still at it and is waited for.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import Enum, auto
from typing import NamedTuple

import structlog

from libs.common import subjects
from libs.common.bus import LAG_S, Fence
from libs.common.errors import AlreadyExists, Fenced, MalformedMessage, NewerVersion
from libs.common.messages import SeenRecord, VideoRecord, decode, encode
from libs.common.session_log import SessionLog
from libs.common.session_state import SessionState

HELD_PATIENCE_S = 10.0  # for a claim of another session: longer than an item of a worker that died takes to come again
POLL_MOST_S = 0.5

log = structlog.get_logger()


class Claim(NamedTuple):
    """A claim of one's own session; `sequence` is its place in the bucket."""

    subject: str
    record: SeenRecord
    sequence: int


class Fate(Enum):
    """What became, by its session's log, of a claim that is not marked as given."""

    GIVEN = auto()
    OPEN = auto()
    VOID = auto()


class Seen:
    """Claims videos for the sessions of a scope."""

    def __init__(self, session_log: SessionLog, patience_s: float = HELD_PATIENCE_S) -> None:
        self.session_log = session_log
        self.bus = session_log.bus
        self.patience_s = patience_s

    async def claim(self, scope: str, signature: str, session: str, item: str) -> Claim | None:
        """The claim under which `session` may give a video; None where another session of `scope` gives it.

        A claim of another item of `session` is as good: which of the two is the video, the session's log decides.
        """
        subject = subjects.seen(scope, signature)
        mine = SeenRecord(session=session, item=item)
        with suppress(AlreadyExists):
            return Claim(subject, mine, await self.bus.publish(subject, encode(mine), create=True))
        loop = asyncio.get_running_loop()
        end_at, delay_s = loop.time() + self.patience_s, LAG_S
        while True:
            there = await self.bus.last(subjects.SEEN, subject)
            held = None if there is None else _read(there.body)
            if held is not None and there is not None:
                if held.session == session:
                    return Claim(subject, held, there.sequence)
                if held.given:
                    return None
                match await self._fate(held.session, signature):
                    case Fate.GIVEN:
                        await self._mark(Claim(subject, held, there.sequence))
                        return None
                    case Fate.OPEN if loop.time() > end_at:
                        log.info("held by a session that is not over", scope=scope, signature=signature)
                        return None
                    case Fate.OPEN:
                        await asyncio.sleep(delay_s)
                        delay_s = min(delay_s * 2, POLL_MOST_S)
                        continue
            with suppress(Fenced, AlreadyExists):
                return await self._take(Claim(subject, mine, there.sequence if there else 0))
            await asyncio.sleep(LAG_S)

    async def given(self, claim: Claim, signature: str, item: str) -> None:
        """Marks a claim as given, after the video's record was written for `item`, and if it counts there."""
        if claim.record.given:
            return
        session = claim.record.session
        others = await asyncio.gather(
            self.session_log.get(session, subjects.CRAWLED),  # without it no session is complete
            self.session_log.get(session, subjects.REPEAT, item),
            self.session_log.get(session, subjects.UNAVAILABLE, item),
        )
        plain = claim.record.item == item and not any(others)
        if plain or await self._fate(session, signature) is Fate.GIVEN:
            await self._mark(claim)

    async def _take(self, claim: Claim) -> Claim:
        """Claims what nobody holds, or nobody with right. Raises Fenced or AlreadyExists where it has changed."""
        if not claim.sequence:  # forgotten just now
            sequence = await self.bus.publish(claim.subject, encode(claim.record), create=True)
        else:
            fence = Fence(claim.subject, claim.sequence)
            sequence = await self.bus.publish(claim.subject, encode(claim.record), fence=fence)
        return claim._replace(sequence=sequence)

    async def _mark(self, claim: Claim) -> None:
        record = SeenRecord(session=claim.record.session, item=claim.record.item, given=True)
        with suppress(Fenced):  # marked by another
            await self.bus.publish(claim.subject, encode(record), fence=Fence(claim.subject, claim.sequence))

    async def _fate(self, session: str, signature: str) -> Fate:
        """A record that came after its session was complete was given to nobody."""
        for last in (False, True):
            state = SessionState()
            async for record in self.session_log.read(session):
                counted = state.apply(record)
                if counted and isinstance(record.message, VideoRecord) and record.message.video.id == signature:
                    return Fate.GIVEN
            if state.complete:
                return Fate.VOID
            if state.request is not None:
                return Fate.OPEN
            if not last:
                await asyncio.sleep(LAG_S)  # a leader that was just elected
        return Fate.VOID  # its log is gone, and whoever gave it would have marked it


def _read(body: bytes) -> SeenRecord | None:
    """The claim in `body`; None where no version can read it. Raises NewerVersion."""
    try:
        return decode(body, SeenRecord)
    except NewerVersion:
        raise
    except MalformedMessage:
        return None
