"""The crawler's process for suspects, run by the service: requests come by standard input."""

from __future__ import annotations

import asyncio
import sys
from functools import partial

import msgspec

from libs.common.bus import Bus, connect
from libs.common.cancelled import Cancelled
from libs.common.lifecycle import run_service
from libs.common.session_log import session_log
from libs.common.settings import load
from libs.common.suspects import STILL_S, serve_suspects
from services.crawler.browser import Browser
from services.crawler.crawl import Crawls, Read
from services.crawler.pacing import shared_lane
from services.crawler.reading import read
from services.crawler.settings import CrawlerSettings


async def serve(settings: CrawlerSettings, _stop: asyncio.Event) -> None:
    """Until standard input ends."""
    settings = msgspec.structs.replace(settings, warm_contexts=0)
    async with connect(settings, "crawler suspects") as bus, Browser(settings, shared_lane(bus, settings)) as browser:
        await crawl_suspects(bus, settings, partial(read, browser))


async def crawl_suspects(bus: Bus, settings: CrawlerSettings, read: Read) -> None:
    """Crawls what comes by standard input, by `read`."""
    cancelled = Cancelled()
    await cancelled.listen(bus)
    async with session_log(bus) as log:
        await serve_suspects(Crawls(log, cancelled, read, settings.traced_share).handle)


if __name__ == "__main__":
    settings = load(CrawlerSettings, "python -m services.crawler.suspects", __doc__ or "")
    sys.exit(run_service("crawler", settings, serve, STILL_S))
