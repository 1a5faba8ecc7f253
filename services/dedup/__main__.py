"""The dedup service: `python -m services.dedup`. Gives every resolved item its outcome in the session log."""

from __future__ import annotations

import asyncio
import sys

from libs.common import subjects
from libs.common.announce import announced
from libs.common.bus import connect
from libs.common.cancelled import Cancelled
from libs.common.handling import SUSPECT_FROM, Handling
from libs.common.health import health_server
from libs.common.lifecycle import run_service
from libs.common.pull import PullLoop, run_loops, suspects_loop
from libs.common.quarantine import quarantine
from libs.common.session_log import SessionLog
from libs.common.settings import load
from libs.common.streams import await_streams
from services.dedup.deadline import Deadlines
from services.dedup.outcome import Outcomes
from services.dedup.room import Room
from services.dedup.settings import DedupSettings

HEALTH_PORT = 8083
SUSPECTS_AT_ONCE = 32
SUSPECTS = "services.dedup.suspects"
CLOSED_AT_ONCE = 64


async def serve(settings: DedupSettings, stop: asyncio.Event) -> None:
    """Until `stop`."""
    async with connect(settings, "dedup") as bus:
        await await_streams(bus, subjects.DEDUP)
        cancelled = Cancelled()
        await cancelled.listen(bus)
        log = SessionLog(bus)
        outcomes = Outcomes(log, cancelled)
        deadlines = Deadlines(log, outcomes)
        parts = (bus, subjects.DEDUP, subjects.DIRECT_TEMPLATE)
        handling = Handling(
            *parts, outcomes.handle, outcomes.give_up, suspect_from=SUSPECT_FROM, limit_s=settings.handle_limit_s
        )
        closing = Handling(
            bus,
            subjects.DEADLINES,
            subjects.RECORD_TEMPLATE,
            deadlines.handle,
            deadlines.give_up,
            spans=False,  # a trace would seem to last until the deadline
        )
        async with quarantine(*parts, outcomes.give_up, SUSPECTS, settings, settings.handle_limit_s) as lane:
            items = PullLoop(bus, subjects.DIRECT, subjects.DEDUP, handling, slots=settings.items)
            requests = PullLoop(bus, subjects.RESULTS, subjects.DEADLINES, closing, slots=CLOSED_AT_ONCE)
            suspects = suspects_loop(bus, subjects.DEDUP, lane, SUSPECTS_AT_ONCE)
            checks = {
                "running": lambda: not stop.is_set(),
                "permissions": lambda: bus.permitted,
                "items": lambda: items.alive,
                "deadlines": lambda: requests.alive,
                "suspects": lambda: suspects.alive,
            }
            endpoints = (items.endpoint, requests.endpoint, suspects.endpoint)
            told = announced(bus, subjects.DEDUP, settings, stop, checks, *endpoints)
            async with told, health_server(settings, HEALTH_PORT, checks), asyncio.TaskGroup() as tasks:
                tasks.create_task(Room(bus).run(stop), name="room")
                tasks.create_task(run_loops(stop, settings.drain_timeout_s, items, requests, suspects))


if __name__ == "__main__":
    settings = load(DedupSettings, "python -m services.dedup", __doc__ or "")
    sys.exit(run_service("dedup", settings, serve))
