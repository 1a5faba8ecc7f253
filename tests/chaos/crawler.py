"""The crawler without a browser: `python -m tests.chaos.crawler`.

The real one's requests, leases, fence, emission and closing; its pages are read from the stand-in's catalogue through
the real extractor. Every attempt may meet the pins in another order, as a site's visitors do.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import AsyncGenerator, Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from libs.common import subjects
from libs.common.bus import connect
from libs.common.lifecycle import run_service
from libs.common.messages import SearchRequest
from libs.common.settings import load
from libs.common.streams import await_streams
from services.crawler.__main__ import work
from services.crawler.extract import extract
from services.crawler.page_read import PageRead, page_read, page_span
from services.crawler.settings import CrawlerSettings
from tests.fake_pinterest import search_feed
from tests.fake_pinterest.origins import Origins
from tests.fake_pinterest.resources import shown_pin

WAY = "feed"


class CatalogueSettings(CrawlerSettings, frozen=True, kw_only=True):
    """The crawler's settings, and the site's pace."""

    page_pins: Annotated[int, Meta(ge=1, description="pins of one page")] = 10
    page_latency_s: Annotated[float, Meta(ge=0, description="how long a page takes on average")] = 0.2


class Catalogue:
    """Reads searches in the stand-in's catalogue."""

    def __init__(self, settings: CatalogueSettings) -> None:
        self.settings = settings

    async def read(self, request: SearchRequest, report: object) -> AsyncGenerator[PageRead, None]:
        """The pages of a search, in the catalogue's order or another."""
        settings, site = self.settings, self.settings.site
        feed = search_feed(request.query)
        pins = [pin.id for pin in feed.catalogue()]
        order = random.Random()
        if order.random() < 0.5:
            order.shuffle(pins)
        origins = Origins(site, site, site, site)
        for number, start in enumerate(range(0, len(pins), settings.page_pins), 1):
            await asyncio.sleep(order.uniform(0, settings.page_latency_s * 2))
            shown = [shown_pin(pin, feed.topic, origins, False) for pin in pins[start : start + settings.page_pins]]
            with page_span(WAY, number) as span:
                entries = [msgspec.json.decode(pin) for pin in shown]
                found = extract(entries, session=request.session, site=site, captured_at=time.time())
                page = page_read(WAY, number, found, span, [])
            yield page


async def serve(settings: CatalogueSettings, stop: asyncio.Event) -> None:
    """Until `stop`."""
    always: Callable[[], bool] = lambda: True  # noqa: E731
    async with connect(settings, "crawler") as bus:
        await await_streams(bus, subjects.CRAWLER)
        await work(bus, settings, stop, Catalogue(settings).read, always, "tests.chaos.suspects")


if __name__ == "__main__":
    settings = load(CatalogueSettings, "python -m tests.chaos.crawler", __doc__ or "")
    sys.exit(run_service("crawler", settings, serve))
