"""One pin, read by its resource or by its page."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

from libs.common.messages import Reason, SearchRequest
from services.crawler import feed, listing, page, pinterest
from services.crawler.asking import ask
from services.crawler.envelope import embedded
from services.crawler.extract import as_pin, extract
from services.crawler.failure import Refused
from services.crawler.pacing import Pacer, Patience
from services.crawler.page_read import PageRead, page_read, page_span
from services.crawler.tab import Tab

NO_VIDEO = "This pin has no video."
NOT_SHOWN = "The site's answer does not show the pin in a way that is known here; update this program."
WITHHELD = "The site says that the pin has a video and does not give it; try again later."


class SinglePin:
    """A crawl of one pin. Its resource may withhold what its page shows, or be refused where the page is not."""

    def __init__(
        self, request: SearchRequest, pin: str, site: str, pacer: Pacer, patience: Patience, *, by_page: bool
    ) -> None:
        self.pins = {pin}
        self._request = request
        self._pin = pin
        self._site = site
        self._pacer = pacer
        self._patience = patience
        self._by_page = by_page

    async def read(self, tab: Tab) -> AsyncGenerator[PageRead, None]:
        """The one page of it; without a video it says so. Raises Refused or BrowserFailed."""
        way = page.WAY if self._by_page else feed.WAY
        with page_span(way, 1) as span:
            entries = self._own(await self._patience.of(lambda: self._entries(tab)))
            found = extract(entries, session=self._request.session, site=self._site, captured_at=time.time())
            if not found.pins:
                raise Refused(Reason.UPSTREAM_CHANGED, NOT_SHOWN)
            doubtful = found.badged if self._by_page else found.stubs
            if not found.media and (doubtful or found.bare):
                raise Refused(Reason.UPSTREAM_CHANGED, WITHHELD)
            read = page_read(way, 1, found, span, [])
        yield PageRead(
            number=1,
            way=way,
            media=read.media,
            pins=read.pins,
            unknown=read.unknown,
            message=None if read.media else NO_VIDEO,
        )

    async def _entries(self, tab: Tab) -> list[object]:
        if self._by_page:
            html = await tab.goto(listing.pin_path(self._pin))
            entries = embedded(html)
            if not entries and pinterest.is_wall(html):
                raise Refused(Reason.LOGIN_REQUIRED, pinterest.LOGIN_PAGE)
            return entries
        return (await ask(tab, listing.pin(self._pin), self._pacer)).results

    def _own(self, entries: list[object]) -> list[object]:
        """The pin's entry: a page may show others too, and one that is alone may go by another id."""
        pins = [entry for entry in entries if as_pin(entry) is not None]
        return [entry for entry in pins if listing.is_pin(entry, self._pin)] or (pins if len(pins) == 1 else [])
