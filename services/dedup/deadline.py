"""The last resort of a session: at its deadline whatever is still open is closed, so that no client waits for ever."""

from __future__ import annotations

import structlog

from libs.common import subjects
from libs.common.closing import Ending, close
from libs.common.delivery import Delivery
from libs.common.handling import Later
from libs.common.messages import Reason, RequestRecord, decode
from libs.common.session_log import SessionLog
from libs.common.session_state import LOST
from services.dedup.outcome import Outcomes

GRACE_S = 5.0  # the crawler ends its session at the deadline itself, if it lives

log = structlog.get_logger()


class Deadlines:
    """Sees each session's request when it is made, and again when its deadline is past."""

    def __init__(self, session_log: SessionLog, outcomes: Outcomes) -> None:
        self.session_log = session_log
        self.outcomes = outcomes

    async def handle(self, delivery: Delivery) -> None:
        """Puts the message off until the deadline, by the broker's clock, then closes the session."""
        request = decode(delivery.body, RequestRecord).request
        due_at = delivery.stored_at + request.deadline_s + GRACE_S
        items, now = await self.session_log.bus.subjects_under(subjects.RAW, subjects.raw_of(request.session))
        if now < due_at:
            raise Later(due_at - now)
        await self.close(request.session, subjects.items_in(items))
        await self.session_log.bus.purge(subjects.RAW, subjects.raw_of(request.session))  # the fence stays

    async def give_up(self, delivery: Delivery, why: str) -> None:
        """A request record that cannot be read has no deadline that could be kept."""
        log.error("no deadline for a session", subject=delivery.subject, why=why)

    async def close(self, session: str, items: set[str]) -> None:
        """Ends the crawl if it has not ended, and gives every item without an outcome one; `items` are those in RAW."""
        state = await self.session_log.state(session)
        if state.complete:
            return
        log.warning("session closed at its deadline", session=session, videos=state.videos)
        if state.crawled is None:
            reason = Reason.CANCELLED if state.cancelled else Reason.DEADLINE
            items = await close(
                self.session_log, session, Ending(reason, filtered=state.passed_over), closed_by="deadline"
            )
            state = await self.session_log.state(session)
        missing = sorted(items - state.outcomes)
        gone = state.without_outcome(besides=missing)  # their messages are in RAW no more
        for item in [*missing, *(f"{LOST}{n}" for n in range(gone))]:
            await self.outcomes.unavailable(session, item, "deadline")
