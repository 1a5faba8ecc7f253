"""The process for suspects of the crawler without a browser: `python -m tests.chaos.suspects`, run by that crawler."""

from __future__ import annotations

import asyncio
import sys

from libs.common.bus import connect
from libs.common.lifecycle import run_service
from libs.common.settings import load
from libs.common.suspects import STILL_S
from services.crawler.suspects import crawl_suspects
from tests.chaos.crawler import Catalogue, CatalogueSettings


async def serve(settings: CatalogueSettings, _stop: asyncio.Event) -> None:
    """Until standard input ends."""
    async with connect(settings, "crawler suspects") as bus:
        await crawl_suspects(bus, settings, Catalogue(settings).read)


if __name__ == "__main__":
    settings = load(CatalogueSettings, "python -m tests.chaos.suspects", __doc__ or "")
    sys.exit(run_service("crawler", settings, serve, STILL_S))
