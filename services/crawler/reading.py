"""Reading a source: by its feeds, by its pages, or by the one and then the other."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
import structlog

from libs.common.messages import Reason, SearchRequest
from libs.common.source import NotASource, SearchSource, ShortLink, Source, source_at
from services.crawler import short_link
from services.crawler.asking import ask
from services.crawler.browser import Browser
from services.crawler.envelope import Envelope
from services.crawler.failure import BrowserFailed, CrawlFailed, Refused
from services.crawler.feed import Feed
from services.crawler.listing import Listing
from services.crawler.pacing import Pacer, Patience, Report
from services.crawler.page import Scroll
from services.crawler.page_read import PageRead
from services.crawler.pinterest import Asked
from services.crawler.plan import OnePin, Plan, Step, plan_of
from services.crawler.single import SinglePin
from services.crawler.tab import Tab

__all__ = ["PageRead", "read"]

RESTARTS = 1  # of the browser in one crawl
_PAGE_MAY_HELP = (Reason.BLOCKED, Reason.LOGIN_REQUIRED, Reason.UPSTREAM_CHANGED)

log = structlog.get_logger()

Way = Feed | Scroll | SinglePin


async def read(browser: Browser, request: SearchRequest, report: Report) -> AsyncGenerator[PageRead, None]:
    """The pages of a source to the site's end; a video may come more than once, always as the same item.

    `report` is told what is being waited for, and until when. Raises CrawlFailed where the end cannot be reached.
    """
    reading = _Reading(browser, request, report)
    number = crashes = 0
    while True:
        try:
            if waits := reading.goes and browser.busy:
                await report("waiting", "a page of the browser", None)
            async with browser.lease() if reading.goes else browser.share() as tab:
                if waits:
                    await report("crawling", None, None)
                await reading.patience.of(tab.land)
                async with aclosing(reading.pages(tab)) as pages:
                    async for page in pages:
                        number += 1
                        yield msgspec.structs.replace(page, number=number)
            return
        except Refused as refusal:
            await reading.turn_to_page(refusal)
        except BrowserFailed as failure:
            crashes += 1
            log.warning("the browser failed", why=str(failure), crashes=crashes)
            if crashes > RESTARTS:
                message = f"The browser failed twice ({failure}); see whether this machine has memory enough."
                raise CrawlFailed(Reason.BROWSER_FAILED, message) from failure
            await report("crawling", "the browser, which is started again", None)


class _Reading:
    """The place that a crawl has come to in its plan; it outlives the tab that it is read with."""

    def __init__(self, browser: Browser, request: SearchRequest, report: Report) -> None:
        self._pacer = Pacer(browser.pacer.lane, new=True)
        self.patience = Patience(self._pacer, report, request.session)
        self._request = request
        self._report = report
        self._site = browser.settings.site
        self._strategy = browser.settings.crawl_strategy
        self._plan: Plan | None = None
        self._step: Step | None = None
        self._way: Way | None = None
        self._by_page = self._strategy == "page"  # from now on
        self._step_by_page = self._by_page  # this step
        self._refused: Refused | None = None  # what had the page tried
        self._read = self._missed = 0

    @property
    def goes(self) -> bool:
        """Whether the tab will be led from page to page, so that it must be this crawl's own."""
        return self._step_by_page or (self._plan is None and self._is_short)

    async def pages(self, tab: Tab) -> AsyncGenerator[PageRead, None]:
        """From the present place to the end. Raises Refused, BrowserFailed or CrawlFailed."""
        if self._plan is None:
            self._plan = plan_of(await self._source(tab))
        while (way := await self._next(self._plan, tab)) is not None:
            async with aclosing(way.read(tab)) as pages:
                async for page in pages:
                    yield page
            self._read += 1
            self._plan.read(way.pins)
            self._begin_anew()
        if self._missed and not self._read:
            raise CrawlFailed(Reason.NOT_FOUND, self._plan.missing or "")

    async def turn_to_page(self, refusal: Refused) -> None:
        """What was refused to the feed is read by its page, or passed over. Raises CrawlFailed where neither helps."""
        if self._plan is None:
            raise CrawlFailed(refusal.reason, refusal.message) from refusal
        named = self._plan.missing is not None
        missing = named and refusal.missing
        if self._turns_to_other_resource(refusal):
            return
        if not self._step_by_page and self._strategy != "feed" and refusal.reason in _PAGE_MAY_HELP:
            log.warning("the feed is refused; the page is tried", reason=str(refusal.reason), why=refusal.message)
            await self._report("crawling", "the site's page", None)
            self._refused, self._way = refusal, None
            self._step_by_page = True
            self._by_page = self._by_page or not missing
            return
        first = self._refused
        told = first if first is not None and refusal.reason is Reason.UPSTREAM_CHANGED else refusal
        if missing or (named and told.missing):
            self._missed += 1
            if self._step is None:  # it was missed before its first step
                raise CrawlFailed(Reason.NOT_FOUND, self._plan.missing or "") from refusal
            self._begin_anew()
            return
        raise CrawlFailed(told.reason, told.message) from refusal

    def _turns_to_other_resource(self, refusal: Refused) -> bool:
        step, way = self._step, self._way
        if refusal.reason is not Reason.UPSTREAM_CHANGED or not isinstance(step, Listing) or not isinstance(way, Feed):
            return False
        other = step.other()
        if other is None or way.pins:
            return False
        self._step, self._way = other, None
        return True

    def _begin_anew(self) -> None:
        self._step = self._way = self._refused = None
        self._step_by_page = self._by_page

    @property
    def _is_short(self) -> bool:
        try:
            return self._request.url is not None and isinstance(source_at(self._request.url, self._site), ShortLink)
        except NotASource:  # it is told where it is read
            return False

    async def _source(self, tab: Tab) -> Source:
        if self._request.url is None:
            return SearchSource(self._request.query)
        try:
            source = source_at(self._request.url, self._site)
        except NotASource as error:
            raise CrawlFailed(Reason.FAILED, f"The url of the request cannot be read: {error}.") from error
        if isinstance(source, ShortLink):
            code = source.code
            source = await self.patience.of(lambda: short_link.follow(tab, code, self._site))
        return source

    async def _next(self, plan: Plan, tab: Tab) -> Way | None:
        if self._step is None:

            async def look_up(asked: Asked) -> Envelope:
                return await self.patience.of(lambda: ask(tab, asked, self._pacer, of_pins=False))

            self._step = await plan.next(look_up, by_page=self._step_by_page)
        if self._step is None:
            return None
        if self._way is None:
            self._way = self._way_of(self._step)
        return self._way

    def _way_of(self, step: Step) -> Way:
        parts = (self._site, self._pacer, self.patience)
        if isinstance(step, OnePin):
            return SinglePin(self._request, step.pin, *parts, by_page=self._step_by_page)
        if not self._step_by_page:
            return Feed(self._request, step, *parts, alone=self._strategy == "feed")
        return Scroll(self._request, step, *parts, doubted=self._refused is not None and self._refused.missing)
