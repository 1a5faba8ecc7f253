"""The transformer: `python -m services.transformer`. Turns raw media into verified direct links."""

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
from libs.common.settings import load
from libs.common.streams import await_streams
from services.transformer.resolver import Resolver
from services.transformer.settings import TransformerSettings
from services.transformer.transform import Transform

HEALTH_PORT = 8082
SUSPECTS_AT_ONCE = 32
SUSPECTS = "services.transformer.suspects"


async def serve(settings: TransformerSettings, stop: asyncio.Event) -> None:
    """Until `stop`."""
    async with connect(settings, "transformer") as bus, Resolver(settings, bus) as resolver:
        await await_streams(bus, subjects.TRANSFORMER)
        cancelled = Cancelled()
        await cancelled.listen(bus)
        transform = Transform(bus, cancelled, resolver.resolve)
        parts = (bus, subjects.TRANSFORMER, subjects.RAW_TEMPLATE)
        handling = Handling(
            *parts, transform.handle, transform.give_up, suspect_from=SUSPECT_FROM, limit_s=settings.handle_limit_s
        )
        async with quarantine(*parts, transform.give_up, SUSPECTS, settings, settings.handle_limit_s) as lane:
            items = PullLoop(bus, subjects.RAW, subjects.TRANSFORMER, handling, slots=settings.items)
            suspects = suspects_loop(bus, subjects.TRANSFORMER, lane, SUSPECTS_AT_ONCE)
            checks = {
                "running": lambda: not stop.is_set(),
                "permissions": lambda: bus.permitted,
                "items": lambda: items.alive,
                "suspects": lambda: suspects.alive,
            }
            told = announced(bus, subjects.TRANSFORMER, settings, stop, checks, items.endpoint, suspects.endpoint)
            async with told, health_server(settings, HEALTH_PORT, checks):
                await run_loops(stop, settings.drain_timeout_s, items, suspects)


if __name__ == "__main__":
    settings = load(TransformerSettings, "python -m services.transformer", __doc__ or "")
    sys.exit(run_service("transformer", settings, serve))
