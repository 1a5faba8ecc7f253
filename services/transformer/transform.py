"""Raw media in, resolved media out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from libs.common import subjects
from libs.common.bus import Bus
from libs.common.cancelled import Cancelled
from libs.common.delivery import Delivery
from libs.common.errors import AlreadyExists, MalformedMessage
from libs.common.messages import DirectMedia, RawMedia, decode, encode
from libs.common.telemetry import inject, sent_if_recorded

Resolve = Callable[[RawMedia], Awaitable[DirectMedia]]


class Transform:
    """Handles raw media: each is resolved, then published, then acknowledged, in this order."""

    def __init__(self, bus: Bus, cancelled: Cancelled, resolve: Resolve) -> None:
        self.bus = bus
        self.cancelled = cancelled
        self.resolve = resolve

    async def handle(self, delivery: Delivery) -> None:
        """One raw media; the same one again is published again, and settles to the same outcome.

        Raises SessionCancelled as soon as its session is."""
        session, item = subjects.item_key(delivery.subject)
        async with self.cancelled.stopping(session):
            raw = decode(delivery.body, RawMedia)
            if (raw.session, raw.item) != (session, item):
                raise MalformedMessage(f"RawMedia: it speaks of {raw.session}, {raw.item}")
            await self._publish(await self.resolve(raw))

    async def give_up(self, delivery: Delivery, why: str) -> None:
        """Sends an item on that cannot be handled, so that it gets its outcome."""
        session, item = subjects.item_key(delivery.subject)
        await self._publish(DirectMedia(session=session, item=item, unavailable=f"failed: {why}"[:200]))

    async def _publish(self, direct: DirectMedia) -> None:
        subject, body = subjects.direct(direct.session, direct.item), encode(direct)
        with sent_if_recorded(subjects.DIRECT_TEMPLATE, subject, len(body)), suppress(AlreadyExists):
            await self.bus.publish(subject, body, headers=inject())
