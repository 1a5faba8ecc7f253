"""The sessions of one owner, by the entries that the gateway writes when it begins one."""

from __future__ import annotations

import asyncio

from libs.common import subjects
from libs.common.bus import LAG_S, PATIENCE_S, Stored
from libs.common.errors import BrokerUnavailable
from libs.common.messages import RequestRecord
from libs.common.session_log import SessionLog
from services.gateway.callers import Caller
from services.gateway.resources import Listed, SessionPage, listed

AT_ONCE = 16  # requests read side by side


async def sessions_of(session_log: SessionLog, caller: Caller, after: int, limit: int) -> SessionPage:
    """Up to `limit` of those that are still kept, the oldest first, listed after `after`. Raises BrokerUnavailable."""
    entries = await _entries(session_log, caller.listed_as, after, limit)
    room = asyncio.Semaphore(AT_ONCE)

    async def one(entry: Stored) -> Listed | None:
        session = subjects.record_key(entry.subject).name or ""
        async with room:
            there = await session_log.get(session, subjects.REQUEST)
            if there is None or not isinstance(there.message, RequestRecord) or there.message.owner != caller.owner:
                return None  # its log went before this entry, for want of room
            crawled = await session_log.get(session, subjects.CRAWLED)
            progress = None if crawled else await session_log.get(session, subjects.PROGRESS)
            found = await session_log.bus.count(subjects.RESULTS, subjects.videos_of(session))
        return listed(there, progress, crawled, found)

    page = await asyncio.gather(*(one(entry) for entry in entries))
    next_after = entries[-1].sequence if len(entries) == limit else None
    return SessionPage(sessions=[session for session in page if session is not None], next_after=next_after)


async def _entries(session_log: SessionLog, owner: str, after: int, limit: int) -> list[Stored]:
    """Any replica answers, also one that lags, so the leader is asked first how far there is to read."""
    bus, pattern = session_log.bus, subjects.owned_by(owner)
    newest = await bus.last(subjects.RESULTS, pattern)
    goal = 0 if newest is None else newest.sequence
    if goal <= after:
        return []
    end_at = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        entries = await bus.read(subjects.RESULTS, pattern, after + 1, limit)
        if len(entries) == limit or (entries and entries[-1].sequence >= goal):
            return entries
        if asyncio.get_running_loop().time() > end_at:
            raise BrokerUnavailable(f"no replica of {subjects.RESULTS} has entry {goal} yet")
        await asyncio.sleep(LAG_S)
