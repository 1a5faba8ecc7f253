"""The crawler: `python -m services.crawler`. Reads the site in a real browser and emits raw media."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial

from libs.common import subjects
from libs.common.bus import Bus, connect
from libs.common.cancelled import Cancelled
from libs.common.health import health_server
from libs.common.lifecycle import run_service
from libs.common.pull import PullLoop
from libs.common.session_log import session_log
from libs.common.settings import load
from libs.common.streams import ACK_WAIT_S, await_streams
from services.crawler.browser import Browser
from services.crawler.crawl import Crawls, Read
from services.crawler.reading import read
from services.crawler.settings import CrawlerSettings

HEALTH_PORT = 8081


async def serve(settings: CrawlerSettings, stop: asyncio.Event) -> None:
    """Until `stop`."""
    async with connect(settings, "crawler") as bus, Browser(settings) as browser:
        await await_streams(bus)
        await work(bus, settings, stop, partial(read, browser), lambda: browser.ready)


async def work(
    bus: Bus, settings: CrawlerSettings, stop: asyncio.Event, read: Read, browser_ready: Callable[[], bool]
) -> None:
    """Takes requests and crawls by `read`, until `stop`."""
    cancelled = Cancelled()
    await cancelled.listen(bus)
    async with session_log(bus) as log:
        crawls = Crawls(log, cancelled, read, settings.traced_share)
        requests = PullLoop(
            bus,
            subjects.SEARCHES,
            subjects.CRAWLER,
            subjects.SEARCH_TEMPLATE,
            crawls.handle,
            crawls.give_up,
            slots=settings.sessions,
            ack_wait_s=ACK_WAIT_S,
        )
        checks = {
            "running": lambda: not stop.is_set(),
            "requests": lambda: requests.alive,
            "tail": lambda: log.tail.alive,
            "browser": browser_ready,
        }
        async with health_server(settings, HEALTH_PORT, checks):
            await requests.run(stop, settings.drain_timeout_s)


if __name__ == "__main__":
    settings = load(CrawlerSettings, "python -m services.crawler", __doc__ or "")
    sys.exit(run_service("crawler", settings, serve))
