"""The crawler: `python -m services.crawler`. Reads the site in a real browser and emits raw media."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from libs.common import subjects
from libs.common.announce import Endpoint, Fact, announced
from libs.common.bus import Bus, connect
from libs.common.cancelled import Cancelled
from libs.common.handling import Handling
from libs.common.health import health_server
from libs.common.lifecycle import run_service
from libs.common.pull import PullLoop, run_loops, suspects_loop
from libs.common.quarantine import quarantine
from libs.common.session_log import session_log
from libs.common.settings import load
from libs.common.streams import await_streams
from services.crawler.browser import Browser
from services.crawler.browser_metrics import browser_measured
from services.crawler.canary import canary_running
from services.crawler.crawl import Crawls, Read
from services.crawler.pacing import shared_lane
from services.crawler.reading import read
from services.crawler.settings import CrawlerSettings

HEALTH_PORT = 8081
SUSPECT_FROM = 5  # deliveries: a crawl is long, so that it meets more restarts than an item does
LONGEST_CRAWL_S = 3600.0  # longer than any deadline, which ends a crawl before


async def serve(settings: CrawlerSettings, stop: asyncio.Event) -> None:
    """Until `stop`."""
    async with connect(settings, "crawler") as bus:
        await await_streams(bus, subjects.CRAWLER)
        lane = shared_lane(bus, settings)
        async with Browser(settings, lane) as browser, canary_running(browser), browser_measured(browser):
            facts: dict[str, Fact] = {
                "circuit": lambda: lane.circuit,
                "tabs": lambda: len(browser.open_tabs),
                "browsers_replaced": lambda: browser.replaced,
            }
            pages = Endpoint("pages", subjects.ALL_PACES, lane.asked)
            await work(bus, settings, stop, partial(read, browser), lambda: browser.ready, also=[pages], facts=facts)


async def work(
    bus: Bus,
    settings: CrawlerSettings,
    stop: asyncio.Event,
    read: Read,
    browser_ready: Callable[[], bool],
    suspects_module: str = "services.crawler.suspects",
    *,
    also: Sequence[Endpoint] = (),
    facts: Mapping[str, Fact] | None = None,
) -> None:
    """Takes requests and crawls by `read`, until `stop`; suspects are crawled by a process that runs the module.

    `also` and `facts` are announced beside what is done here.
    """
    cancelled = Cancelled()
    await cancelled.listen(bus)
    async with session_log(bus) as log:
        crawls = Crawls(log, cancelled, read, settings.traced_share)
        parts = (bus, subjects.CRAWLER, subjects.SEARCH_TEMPLATE)
        handling = Handling(*parts, crawls.handle, crawls.give_up, suspect_from=SUSPECT_FROM)
        async with quarantine(*parts, crawls.give_up, suspects_module, settings, LONGEST_CRAWL_S) as lane:
            requests = PullLoop(bus, subjects.SEARCHES, subjects.CRAWLER, handling, slots=settings.sessions)
            suspects = suspects_loop(bus, subjects.CRAWLER, lane, settings.sessions)
            checks = {
                "running": lambda: not stop.is_set(),
                "permissions": lambda: bus.permitted,
                "requests": lambda: requests.alive,
                "suspects": lambda: suspects.alive,
                "tail": lambda: log.tail.alive,
                "browser": browser_ready,
            }
            endpoints = (requests.endpoint, *also, suspects.endpoint)
            told = announced(bus, subjects.CRAWLER, settings, stop, checks, *endpoints, facts=facts)
            async with told, health_server(settings, HEALTH_PORT, checks):
                await run_loops(stop, settings.drain_timeout_s, requests, suspects)


if __name__ == "__main__":
    settings = load(CrawlerSettings, "python -m services.crawler", __doc__ or "")
    sys.exit(run_service("crawler", settings, serve))
