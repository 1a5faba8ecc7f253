"""The transformer: `python -m services.transformer`. Turns raw media into verified direct links."""

from __future__ import annotations

import asyncio
import sys

from libs.common import subjects
from libs.common.bus import connect
from libs.common.cancelled import Cancelled
from libs.common.health import health_server
from libs.common.lifecycle import run_service
from libs.common.pull import PullLoop
from libs.common.settings import load
from libs.common.streams import ACK_WAIT_S, await_streams
from services.transformer.resolver import Resolver
from services.transformer.settings import TransformerSettings
from services.transformer.transform import Transform

HEALTH_PORT = 8082


async def serve(settings: TransformerSettings, stop: asyncio.Event) -> None:
    """Until `stop`."""
    async with connect(settings, "transformer") as bus, Resolver(settings) as resolver:
        await await_streams(bus)
        cancelled = Cancelled()
        await cancelled.listen(bus)
        transform = Transform(bus, cancelled, resolver.resolve)
        items = PullLoop(
            bus,
            subjects.RAW,
            subjects.TRANSFORMER,
            subjects.RAW_TEMPLATE,
            transform.handle,
            transform.give_up,
            slots=settings.items,
            ack_wait_s=ACK_WAIT_S,
        )
        checks = {"running": lambda: not stop.is_set(), "items": lambda: items.alive}
        async with health_server(settings, HEALTH_PORT, checks):
            await items.run(stop, settings.drain_timeout_s)


if __name__ == "__main__":
    settings = load(TransformerSettings, "python -m services.transformer", __doc__ or "")
    sys.exit(run_service("transformer", settings, serve))
