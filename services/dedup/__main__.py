"""The dedup service: `python -m services.dedup`. Gives every resolved item its outcome in the session log."""

from __future__ import annotations

import asyncio
import sys

from libs.common import subjects
from libs.common.bus import connect
from libs.common.cancelled import Cancelled
from libs.common.health import health_server
from libs.common.lifecycle import run_service
from libs.common.pull import PullLoop
from libs.common.session_log import SessionLog
from libs.common.settings import load
from libs.common.streams import ACK_WAIT_S, await_streams
from services.dedup.deadline import Deadlines
from services.dedup.outcome import Outcomes
from services.dedup.settings import DedupSettings

HEALTH_PORT = 8083


async def serve(settings: DedupSettings, stop: asyncio.Event) -> None:
    """Until `stop`."""
    async with connect(settings, "dedup") as bus:
        await await_streams(bus)
        cancelled = Cancelled()
        await cancelled.listen(bus)
        log = SessionLog(bus)
        outcomes = Outcomes(log, cancelled)
        deadlines = Deadlines(log, outcomes)
        items = PullLoop(
            bus,
            subjects.DIRECT,
            subjects.DEDUP,
            subjects.DIRECT_TEMPLATE,
            outcomes.handle,
            outcomes.give_up,
            slots=settings.items,
            ack_wait_s=ACK_WAIT_S,
        )
        requests = PullLoop(
            bus,
            subjects.RESULTS,
            subjects.DEADLINES,
            subjects.RECORD_TEMPLATE,
            deadlines.handle,
            deadlines.give_up,
            slots=64,
            ack_wait_s=ACK_WAIT_S,
        )
        checks = {
            "running": lambda: not stop.is_set(),
            "items": lambda: items.alive,
            "deadlines": lambda: requests.alive,
        }
        async with health_server(settings, HEALTH_PORT, checks), asyncio.TaskGroup() as tasks:
            tasks.create_task(items.run(stop, settings.drain_timeout_s))
            tasks.create_task(requests.run(stop, settings.drain_timeout_s))


if __name__ == "__main__":
    settings = load(DedupSettings, "python -m services.dedup", __doc__ or "")
    sys.exit(run_service("dedup", settings, serve))
