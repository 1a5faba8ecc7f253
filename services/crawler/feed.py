"""The feed way: ask the search resource for full pins, page by page, from inside a page of the site's origin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

import msgspec
import structlog
from opentelemetry.trace import Span
from playwright.async_api import Error

from libs.common.messages import Reason, SearchRequest
from services.crawler import pinterest
from services.crawler.envelope import Envelope
from services.crawler.extract import Extraction, extract
from services.crawler.failure import (
    TIMED_OUT_S,
    BrowserFailed,
    CrawlFailed,
    Refused,
    from_playwright,
    timed_out,
    unreachable,
)
from services.crawler.pacing import Pacer, Patience
from services.crawler.page_read import PageRead, page_read, page_span
from services.crawler.tab import Tab

WAY = "feed"
STUBS_ONLY = "The site gives pictures without their videos (its gated results); try again later, without a login wall."
LOOP = "The site gave the same cursor twice, so that what comes after it cannot be read; try again later."
NOTHING_NEW = "The site went on giving pages without anything new and no end; try again later."
_GRACE_S = 2.0  # for a renderer that does not come to its own timer
_FETCH = """async ({path, headers, timeout_ms}) => {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), timeout_ms);
  try {
    const answer = await fetch(path, {headers, signal: stop.signal, credentials: "same-origin", cache: "no-store"});
    const body = await answer.text();
    const [content_type, retry_after] = ["content-type", "retry-after"].map((name) => answer.headers.get(name));
    return {status: answer.status, content_type, retry_after, body};
  } catch (error) {
    return {error: String(error), timed_out: stop.signal.aborted};
  } finally {
    clearTimeout(timer);
  }
}"""

log = structlog.get_logger()


async def ask(tab: Tab, asked: pinterest.Asked, pacer: Pacer) -> Envelope:
    """What a resource answers to the page in `tab`. Raises Refused or BrowserFailed."""
    await tab.land()
    await pacer.turn()
    what = "A request to the site"
    tab.last_failure = None
    argument = {"path": asked.path, "headers": asked.headers, "timeout_ms": int(TIMED_OUT_S * 1000)}
    try:
        async with asyncio.timeout(TIMED_OUT_S + _GRACE_S):
            got = await tab.page.evaluate(_FETCH, argument)
    except TimeoutError as error:
        raise BrowserFailed("the page does not answer") from error
    except Error as error:
        failure = from_playwright(error, what)
        tab.left()
        raise failure from error
    answer = msgspec.convert(got, pinterest.Answer)
    if answer.timed_out:
        raise timed_out(what)
    if answer.error is not None:
        raise unreachable((tab.last_failure or answer.error).removeprefix("net::"))
    return pinterest.envelope_in(answer)


class Feed:
    """The place that a crawl has come to; it outlives the tab that it is read with."""

    def __init__(self, request: SearchRequest, site: str, pacer: Pacer, patience: Patience) -> None:
        self._request = request
        self._site = site
        self._pacer = pacer
        self._patience = patience
        self._bookmark: str | None = None
        self._bookmarks: set[str] = set()
        self._pins: set[str] = set()
        self._ended = False
        self._number = 0
        self._fullest = 0
        self._empty = self._stale = 0
        self._media = 0
        self._unknown: list[str] = []

    async def read(self, tab: Tab) -> AsyncGenerator[PageRead, None]:
        """The pages from the present place to the end. Raises Refused, BrowserFailed or CrawlFailed."""
        while not self._ended:
            with page_span(WAY, self._number + 1) as span:
                page, envelope = await self._page(tab, span)
            yield page
            self._go_on(envelope)
        if self._unknown and not self._media:
            what = "; ".join(self._unknown[:3])
            raise Refused(Reason.UPSTREAM_CHANGED, f"No video could be read from the site's answers ({what}).")

    async def _page(self, tab: Tab, span: Span) -> tuple[PageRead, Envelope]:
        envelope = await self._asked(tab)
        if envelope.lost:
            raise Refused(Reason.UPSTREAM_CHANGED, pinterest.LOST)
        if self._doubtful(envelope):  # a fault of the moment gives no cursor, or an old one, as an end may
            again = await self._asked(tab)
            envelope = envelope if self._doubtful(again) else again
            if envelope.bookmark is None:
                envelope.unknown.append("a full page without a cursor to the next")
        extraction = extract(envelope.results, session=self._request.session, site=self._site, captured_at=time.time())
        if extraction.gated:
            raise Refused(Reason.UPSTREAM_CHANGED, STUBS_ONLY)
        self._number += 1
        self._fullest = max(self._fullest, len(envelope.results))
        self._count(envelope, extraction)
        return page_read(WAY, self._number, extraction, span, envelope.unknown), envelope

    async def _asked(self, tab: Tab) -> Envelope:
        asked = pinterest.search(self._request.query, self._bookmark)
        return await self._patience.of(lambda: ask(tab, asked, self._pacer))

    def _doubtful(self, envelope: Envelope) -> bool:
        if envelope.bookmark is None:
            return len(envelope.results) >= max(self._fullest, pinterest.USUAL_PAGE_SIZE)
        return envelope.bookmark in self._bookmarks

    def _count(self, envelope: Envelope, extraction: Extraction) -> None:
        pins = {str(entry.get("id")) for entry in envelope.results if isinstance(entry, dict)}
        self._empty = 0 if extraction.pins else self._empty + 1
        self._stale = 0 if pins - self._pins else self._stale + 1
        self._pins |= pins
        self._media += len(extraction.media)
        strange = [*envelope.unknown, *extraction.unknown]
        if strange:
            log.warning("the site's answer is not as it was", unknown=strange, page=self._number)
            self._unknown += strange[: 10 - len(self._unknown)]

    def _go_on(self, envelope: Envelope) -> None:
        """To the next page. Raises CrawlFailed where the site's cursors lead nowhere."""
        if pinterest.is_end(envelope.bookmark):
            self._ended = True
            return
        assert envelope.bookmark is not None
        if envelope.bookmark in self._bookmarks:
            raise CrawlFailed(Reason.UPSTREAM_CHANGED, LOOP)
        if self._empty > pinterest.EMPTY_PAGES or self._stale > pinterest.STALE_PAGES:
            raise CrawlFailed(Reason.UPSTREAM_CHANGED, NOTHING_NEW)
        self._bookmarks.add(envelope.bookmark)
        self._bookmark = envelope.bookmark
