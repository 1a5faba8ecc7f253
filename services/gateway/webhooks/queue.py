"""The queue of sessions whose results are to be posted."""

from __future__ import annotations

from contextlib import suppress

from libs.common import subjects
from libs.common.bus import Bus
from libs.common.errors import AlreadyExists
from libs.common.frames import ErrorCode
from libs.common.messages import Webhook, encode
from libs.common.telemetry import inject
from services.gateway.callers import Caller
from services.gateway.limits import COME_BACK_S, Limited


class WebhookQueue:
    """At most `per_caller` of one owner, or of one address without a name."""

    def __init__(self, bus: Bus, per_caller: int = 1000) -> None:
        self.bus, self.per_caller = bus, per_caller

    async def check(self, caller: Caller) -> None:
        """Raises Limited where `caller` has as many as it may; this machine's own are not counted."""
        if not caller.owner and not caller.place:
            return
        pattern = subjects.webhooks_of(caller.owner, caller.place)
        waiting, _ = await self.bus.subjects_under(subjects.WEBHOOKS, pattern)
        if len(waiting) >= self.per_caller:
            message = f"webhooks of {len(waiting)} sessions are still to be posted; ask again when some are"
            raise Limited(ErrorCode.TOO_MANY_SESSIONS, message, COME_BACK_S)

    async def put(self, session: str, caller: Caller, patience_s: float) -> None:
        """Has the results of `session` posted; a session that is there already stays as it is."""
        with suppress(AlreadyExists):
            await self.bus.publish(
                subjects.webhook(caller.owner, caller.place, session),
                encode(Webhook(session=session)),
                headers=inject(),
                create=True,
                patience_s=patience_s,
            )
