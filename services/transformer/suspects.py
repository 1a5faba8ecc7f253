"""The transformer's process for suspects, run by the service: items come by standard input."""

from __future__ import annotations

import asyncio
import sys

from libs.common.bus import connect
from libs.common.cancelled import Cancelled
from libs.common.lifecycle import run_service
from libs.common.settings import load
from libs.common.suspects import STILL_S, serve_suspects
from services.transformer.resolver import Resolver
from services.transformer.settings import TransformerSettings
from services.transformer.transform import Transform


async def serve(settings: TransformerSettings, _stop: asyncio.Event) -> None:
    """Until standard input ends."""
    async with connect(settings, "transformer suspects") as bus, Resolver(settings, bus) as resolver:
        cancelled = Cancelled()
        await cancelled.listen(bus)
        await serve_suspects(Transform(bus, cancelled, resolver.resolve).handle)


if __name__ == "__main__":
    settings = load(TransformerSettings, "python -m services.transformer.suspects", __doc__ or "")
    sys.exit(run_service("transformer", settings, serve, STILL_S))
