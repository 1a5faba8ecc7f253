"""The outcome of every item, exactly one each: a new video, a repeat, or unavailable.

The claim is the result. The record of a new video is created under its signature, only if none exists; that one write
both claims the video for the session and delivers it, so there is no moment between the two at which a crash could lose
or repeat it.
"""

from __future__ import annotations

from contextlib import suppress

import structlog

from libs.common import metrics, subjects
from libs.common.cancelled import Cancelled
from libs.common.delivery import Delivery
from libs.common.errors import AlreadyExists, MalformedMessage
from libs.common.filters import facts_of, unmet
from libs.common.messages import DirectMedia, RepeatRecord, UnavailableRecord, Video, VideoRecord, decode
from libs.common.session_log import SessionLog
from services.dedup.requests import Requests
from services.dedup.seen import Seen

log = structlog.get_logger()


class Outcomes:
    """Writes outcomes to the session log."""

    def __init__(self, session_log: SessionLog, cancelled: Cancelled) -> None:
        self.session_log = session_log
        self.cancelled = cancelled
        self.requests = Requests(session_log)
        self.seen = Seen(session_log)
        metrics.at_zero(metrics.outcomes, outcome=("video", "repeat", "seen", "filtered", "unavailable"))

    async def handle(self, delivery: Delivery) -> None:
        """One resolved item; the same item again changes nothing."""
        session, item = subjects.item_key(delivery.subject)
        async with self.cancelled.stopping(session):
            direct = decode(delivery.body, DirectMedia)
            if (direct.session, direct.item) != (session, item):
                raise MalformedMessage(f"DirectMedia: it speaks of {direct.session}, {direct.item}")
            await self.settle(direct)

    async def settle(self, direct: DirectMedia) -> None:
        """Gives the item its outcome."""
        if direct.video is None:
            await self.unavailable(direct.session, direct.item, direct.unavailable or "no_media")
            return
        request = await self.requests.of(direct.session)
        filters = request.filters if request else None
        if filters is not None and (name := unmet(filters, facts_of(direct.video))):
            await self.unavailable(direct.session, direct.item, f"filtered: {name}", filtered=True)
        elif request is not None and request.scope is not None:
            await self._claim_in_scope(direct, direct.video, request.scope)
        else:
            await self._claim(direct, direct.video)

    async def unavailable(self, session: str, item: str, reason: str, *, filtered: bool = False) -> None:
        """The item has no usable media; nothing is written where it says so already."""
        record = UnavailableRecord(item=item, reason=reason, filtered=filtered)
        with suppress(AlreadyExists):  # a redelivery
            await self.session_log.create(session, subjects.UNAVAILABLE, record, item)
            _count("filtered" if filtered else "unavailable")

    async def give_up(self, delivery: Delivery, why: str) -> None:
        """The outcome of an item whose message cannot be handled."""
        session, item = subjects.item_key(delivery.subject)
        await self.unavailable(session, item, f"failed: {why}"[:200])

    async def _claim_in_scope(self, direct: DirectMedia, video: Video, scope: str) -> None:
        claim = await self.seen.claim(scope, video.id, direct.session, direct.item)
        if claim is None:
            await self._repeat(direct, video, seen=True)
        else:
            await self._claim(direct, video)
            await self.seen.given(claim, video.id, direct.item)

    async def _claim(self, direct: DirectMedia, video: Video) -> None:
        record = VideoRecord(item=direct.item, video=video, captured_at=direct.captured_at)
        holder = await self.session_log.claim(direct.session, subjects.VIDEO, record, video.id)
        if holder is None:
            _count("video")
            return
        if isinstance(holder.message, VideoRecord) and holder.message.item == direct.item:
            return  # a redelivery: the claim is this item's own
        await self._repeat(direct, video)

    async def _repeat(self, direct: DirectMedia, video: Video, *, seen: bool = False) -> None:
        repeat = RepeatRecord(item=direct.item, signature=video.id, seen=seen)
        with suppress(AlreadyExists):  # a redelivery
            await self.session_log.create(direct.session, subjects.REPEAT, repeat, direct.item)
            _count("seen" if seen else "repeat")


def _count(outcome: str) -> None:
    metrics.outcomes.add(1, {"outcome": outcome})
