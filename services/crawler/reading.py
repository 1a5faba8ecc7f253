"""Reading a search: by the feed, by the page, or by the one and then the other."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog

from libs.common.messages import Reason, SearchRequest
from services.crawler.browser import Browser
from services.crawler.failure import BrowserFailed, CrawlFailed, Refused
from services.crawler.feed import Feed
from services.crawler.pacing import Pacer, Patience, Report
from services.crawler.page import Scroll
from services.crawler.page_read import PageRead

__all__ = ["PageRead", "read"]

RESTARTS = 1  # of the browser in one crawl
_PAGE_MAY_HELP = (Reason.BLOCKED, Reason.LOGIN_REQUIRED, Reason.UPSTREAM_CHANGED)

log = structlog.get_logger()


async def read(browser: Browser, request: SearchRequest, report: Report) -> AsyncGenerator[PageRead, None]:
    """The pages of a search to the site's end; a video may come more than once, always as the same item.

    `report` is told what is being waited for, and until when. Raises CrawlFailed where the end cannot be reached.
    """
    settings = browser.settings
    pacer = Pacer(browser.pacer.lane, new=True)
    patience = Patience(pacer, report, request.session)
    parts = (request, settings.site, pacer, patience)
    way: Feed | Scroll = Scroll(*parts) if settings.crawl_strategy == "page" else Feed(*parts)
    refused: Refused | None = None
    crashes = 0
    while True:
        try:
            if waits := isinstance(way, Scroll) and browser.busy:
                await report("waiting", "a page of the browser", None)
            async with browser.lease() if isinstance(way, Scroll) else browser.share() as tab:
                if waits:
                    await report("crawling", None, None)
                await patience.of(tab.land)
                async with aclosing(way.read(tab)) as pages:
                    async for page in pages:
                        yield page
            return
        except Refused as refusal:
            if isinstance(way, Scroll) or settings.crawl_strategy == "feed" or refusal.reason not in _PAGE_MAY_HELP:
                raise _failed(refused, refusal) from refusal
            log.warning("the feed is refused; the page is tried", reason=str(refusal.reason), why=refusal.message)
            await report("crawling", "the site's page", None)
            refused, way = refusal, Scroll(*parts)
        except BrowserFailed as failure:
            crashes += 1
            log.warning("the browser failed", why=str(failure), crashes=crashes)
            if crashes > RESTARTS:
                message = f"The browser failed twice ({failure}); see whether this machine has memory enough."
                raise CrawlFailed(Reason.BROWSER_FAILED, message) from failure
            await report("crawling", "the browser, which is started again", None)


def _failed(first: Refused | None, last: Refused) -> CrawlFailed:
    """What both refusals say: the first, where the second only says that the page held nothing."""
    told = first if first is not None and last.reason is Reason.UPSTREAM_CHANGED else last
    return CrawlFailed(told.reason, told.message)
