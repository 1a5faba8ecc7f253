"""How far the posting of a session is, for those who may see the session."""

from __future__ import annotations

from libs.common.bus import Bus
from libs.common.messages import RequestRecord
from services.gateway.resources import CallbackStatus
from services.gateway.webhooks.ledger import kept
from services.gateway.webhooks.payloads import moment


async def status_of(bus: Bus, session: str, request: RequestRecord) -> CallbackStatus | None:
    """None where nothing is posted."""
    if request.callback_url is None:
        return None
    known = (await kept(bus, session)).callback
    under_way = "retrying" if known.failures else "pending"
    return CallbackStatus(
        url=request.callback_url,
        state=under_way if known.over is None else str(known.over),
        delivered=known.delivered,
        attempts=known.attempts,
        failures=known.failures,
        status=known.status,
        error=known.error,
        tried_at=None if known.tried_at is None else moment(known.tried_at),
        retry_at=None if known.retry_at is None or known.over is not None else moment(known.retry_at),
    )
