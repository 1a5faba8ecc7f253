"""The feed way: ask a resource for full pins, page by page, from inside a page of the site's origin."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog
from opentelemetry.trace import Span

from libs.common.messages import Reason, SearchRequest
from services.crawler import pinterest
from services.crawler.asking import ask
from services.crawler.ending import way_on
from services.crawler.envelope import Envelope
from services.crawler.extract import Extraction, extract
from services.crawler.failure import CrawlFailed, Refused
from services.crawler.listing import Listing
from services.crawler.pacing import Pacer, Patience
from services.crawler.page_read import PageRead, page_read, page_span
from services.crawler.pins import Meagre, by_pin
from services.crawler.tab import Tab

WAY = "feed"
STUBS_ONLY = "The site gives pictures without their videos (its gated results); try again later, without a login wall."
log = structlog.get_logger()


class Feed:
    """The place that a crawl has come to; it outlives the tab that it is read with.

    One that is not `alone` leaves a listing that begins with stubs to the page, which may be told more.
    """

    def __init__(
        self, request: SearchRequest, listing: Listing, site: str, pacer: Pacer, patience: Patience, *, alone: bool
    ) -> None:
        self._alone = alone
        self._request = request
        self._listing = listing
        self._size = pinterest.page_size(request.result_limit)
        self._site = site
        self._pacer = pacer
        self._patience = patience
        self._bookmark: str | None = None
        self._bookmarks: set[str] = set()
        self._pins: set[str] = set()
        self._meagre = Meagre()
        self._ended = False
        self._number = 0
        self._fullest = 0
        self._empty = self._stale = 0
        self._media = 0
        self._unknown: list[str] = []

    @property
    def pins(self) -> set[str]:
        """The ids of the pins that were read."""
        return self._pins

    async def read(self, tab: Tab) -> AsyncGenerator[PageRead, None]:
        """The pages from the present place to the end. Raises Refused, BrowserFailed or CrawlFailed."""
        while not self._ended:
            with page_span(WAY, self._number + 1) as span:
                page, envelope, stubs = await self._page(tab, span)
            yield page
            async for page in self._by_pin(tab, stubs):
                yield page
            await self._go_on(tab, envelope)
        async for page in self._by_pin(tab, self._meagre.take()):
            yield page
        self._meagre.check()
        if self._unknown and not self._media:
            what = "; ".join(self._unknown[:3])
            raise Refused(Reason.UPSTREAM_CHANGED, f"No video could be read from the site's answers ({what}).")

    async def _page(self, tab: Tab, span: Span) -> tuple[PageRead, Envelope, list[str]]:
        """The next page, and the pins on it that are to be asked for at once: all, where they are stubs."""
        envelope = await self._asked(tab)
        if self._doubtful(envelope):  # a fault of the moment gives no cursor, or an old one, as an end may
            again = await self._asked(tab)
            envelope = again if envelope.lost or not self._doubtful(again) else envelope
        entries = self._listing.of(envelope.results)
        extraction = extract(entries, session=self._request.session, site=self._site, captured_at=time.time())
        if extraction.gated and not self._media and not self._alone:
            raise Refused(Reason.UPSTREAM_CHANGED, STUBS_ONLY)
        self._number += 1
        self._fullest = max(self._fullest, len(envelope.ids))
        self._count(envelope, extraction)
        page = page_read(WAY, self._number, extraction, span, envelope.unknown)
        if extraction.gated:
            return page, envelope, extraction.stubs
        self._meagre.note(extraction)
        return page, envelope, []

    async def _by_pin(self, tab: Tab, pins: list[str]) -> AsyncGenerator[PageRead, None]:
        """The pins of which the pages said too little. Raises Refused where they are not told of: videos may lack."""
        async with aclosing(by_pin(tab, pins, self._pacer, self._patience)) as answers:
            async for _, entries in answers:
                self._number += 1
                with page_span(WAY, self._number) as span:
                    found = extract(entries, session=self._request.session, site=self._site, captured_at=time.time())
                    self._media += len(found.media)
                    page = page_read(WAY, self._number, found, span, [])
                yield page

    async def _asked(self, tab: Tab, size: int | None = None) -> Envelope:
        asked = self._listing.asked(self._bookmark, size or self._size)
        return await self._patience.of(lambda: ask(tab, asked, self._pacer))

    def _doubtful(self, envelope: Envelope) -> bool:
        return envelope.bookmark is None or envelope.bookmark in self._bookmarks

    def _count(self, envelope: Envelope, extraction: Extraction) -> None:
        pins = envelope.ids
        self._empty = 0 if extraction.pins else self._empty + 1
        self._stale = 0 if pins - self._pins else self._stale + 1
        self._pins |= pins
        self._media += len(extraction.media)
        strange = [*envelope.unknown, *extraction.unknown]
        if strange:
            log.warning("the site's answer is not as it was", unknown=strange, page=self._number)
            self._unknown += strange[: 10 - len(self._unknown)]

    async def _go_on(self, tab: Tab, envelope: Envelope) -> None:
        """To the next page. Raises Refused or CrawlFailed where the site's cursors lead nowhere."""
        if envelope.lost:
            raise Refused(Reason.UPSTREAM_CHANGED, pinterest.LOST)
        bookmark = envelope.bookmark
        if bookmark is None:
            bookmark = await way_on(lambda size: self._asked(tab, size), envelope, self._fullest)
        if bookmark is None or pinterest.is_end(bookmark):
            self._ended = True
            return
        if bookmark in self._bookmarks:
            raise CrawlFailed(Reason.UPSTREAM_CHANGED, pinterest.LOOP)
        if self._empty > pinterest.EMPTY_PAGES or self._stale > pinterest.STALE_PAGES:
            raise CrawlFailed(Reason.UPSTREAM_CHANGED, pinterest.NOTHING_NEW)
        self._bookmarks.add(bookmark)
        self._bookmark = bookmark
