"""Dedup's process for suspects, run by the service: items come by standard input."""

from __future__ import annotations

import asyncio
import sys

from libs.common.bus import connect
from libs.common.cancelled import Cancelled
from libs.common.lifecycle import run_service
from libs.common.session_log import SessionLog
from libs.common.settings import load
from libs.common.suspects import STILL_S, serve_suspects
from services.dedup.outcome import Outcomes
from services.dedup.settings import DedupSettings


async def serve(settings: DedupSettings, _stop: asyncio.Event) -> None:
    """Until standard input ends."""
    async with connect(settings, "dedup suspects") as bus:
        cancelled = Cancelled()
        await cancelled.listen(bus)
        await serve_suspects(Outcomes(SessionLog(bus), cancelled).handle)


if __name__ == "__main__":
    settings = load(DedupSettings, "python -m services.dedup.suspects", __doc__ or "")
    sys.exit(run_service("dedup", settings, serve, STILL_S))
