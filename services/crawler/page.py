"""The page way: open the page of a listing as a visitor does, listen to what it is told, and scroll for more.

The page asks for gated results, which hold no videos, so its own requests are changed on their way to ask for full
pins. Where the site gives stubs all the same, each is asked for by itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from functools import partial

import structlog
from playwright.async_api import Error, Request, Route

from libs.common.messages import Pin, RawMedia, Reason, SearchRequest, Variant
from services.crawler import pinterest
from services.crawler.address import signature_in
from services.crawler.asking import ask
from services.crawler.ending import is_last
from services.crawler.envelope import Envelope, embedded
from services.crawler.extract import Extraction, extract
from services.crawler.failure import TIMED_OUT_S, BrowserFailed, Refused, answering, from_playwright
from services.crawler.listener import Listener
from services.crawler.listing import Listing
from services.crawler.pacing import Pacer, Patience
from services.crawler.page_read import PageRead, page_read, page_span
from services.crawler.pins import Meagre, by_pin
from services.crawler.tab import Tab

WAY = "page"
NUDGES = 4  # scrolls without an answer, after which the page is taken to be at its end
NUDGE_S = 1.2  # after each; a page that failed waits a second itself before it tries again
STALLED = "The site's page stopped giving results without an end; try again later, or update this program."
BLANK_PAGES = 3  # openings in a row of a page that shows and asks for nothing, after which it is taken at its word
TOO_LONG = "The site finds the address of a request too long; try again later, or update this program."
NOTHING = "The site's page asked for no results in a way that is known here; update this program."

_RESOURCES = re.compile(r"^https?://[^/]+/(resource|_)")  # also of a country's host, where the site led to it

_SCROLL = """(back) => {
  const root = document.scrollingElement ?? document.documentElement;
  if (back) window.scrollTo(0, Math.max(0, root.scrollHeight - 3 * innerHeight));
  requestAnimationFrame(() => window.scrollTo(0, root.scrollHeight));
}"""

log = structlog.get_logger()


class _Guard:
    """Within one opening of the page: ends what goes round in a circle, or on without anything new."""

    def __init__(self) -> None:
        self._pins: set[str] = set()
        self._bookmarks: set[str] = set()
        self._stale = 0

    def check(self, envelope: Envelope) -> None:
        """Raises Refused for an answer after which nothing new is to be hoped for."""
        pins = envelope.ids
        self._stale = 0 if pins - self._pins else self._stale + 1
        self._pins |= pins
        if self._stale > pinterest.STALE_PAGES:
            raise Refused(Reason.UPSTREAM_CHANGED, pinterest.NOTHING_NEW, transient=True)
        if pinterest.is_end(envelope.bookmark) or envelope.bookmark is None:
            return
        if envelope.bookmark in self._bookmarks:
            raise Refused(Reason.UPSTREAM_CHANGED, pinterest.LOOP, transient=True)
        self._bookmarks.add(envelope.bookmark)


def _note_length(tab: Tab, answer: pinterest.Answer) -> None:
    """Raises Refused, for another opening, where the site finds an address too long: it is asked by a form then."""
    length = pinterest.length_of(answer.address)
    if answer.status in pinterest.TOO_LONG and length < tab.too_long:
        tab.too_long = length
        raise Refused(Reason.UPSTREAM_CHANGED, TOO_LONG, transient=True)


async def _form_headers(tab: Tab, address: str) -> dict[str, str]:
    cookies = {cookie.get("name"): cookie.get("value", "") for cookie in await tab.context.cookies(address)}
    return {"content-type": "application/x-www-form-urlencoded", "x-csrftoken": cookies.get("csrftoken", "")}


class Scroll:
    """A crawl by the page; what it has given survives a page that must be opened anew.

    `doubted` says that the site has said elsewhere that it knows no such list, so that a page without one bears it out.
    """

    def __init__(
        self,
        request: SearchRequest,
        listing: Listing,
        site: str,
        pacer: Pacer,
        patience: Patience,
        *,
        doubted: bool = False,
    ) -> None:
        self._request = request
        self._listing = listing
        self._site = site
        self._pacer = pacer
        self._patience = patience
        self._number = 0
        self._given: set[str] = set()
        self._signatures: set[str] = set()
        self._asked_pins: set[str] = set()
        self._meagre = Meagre()
        self._seen: set[str] = set()
        self._unknown: list[str] = []
        self._refused: Refused | None = None  # the last that the page met since it was last answered
        self._reopened = False
        self._blank_left = 1 if doubted else BLANK_PAGES

    @property
    def pins(self) -> set[str]:
        """The ids of the pins that were read."""
        return self._seen

    async def read(self, tab: Tab) -> AsyncGenerator[PageRead, None]:
        """The pages from the top to the end. Raises Refused or BrowserFailed."""
        tab.rendering = True
        tab.noted.clear()
        try:
            async with Listener(tab, self._listing.is_asked_by) as listener:
                handler = partial(self._on_request, tab, listener)
                async with answering(TIMED_OUT_S, "the page"):
                    await tab.page.route(_RESOURCES, handler)
                while True:
                    try:
                        async for page in self._once(tab, listener):
                            yield page
                        break
                    except Refused as refusal:
                        await self._patience.wait(refusal)
                    except Error as error:
                        failure = tab.failure(error, "The site's page")
                        if isinstance(failure, BrowserFailed):
                            raise failure from error
                        await self._patience.wait(failure)
            async with answering(TIMED_OUT_S, "the page"):
                await tab.page.unroute(_RESOURCES, handler)
        except Error as error:
            raise from_playwright(error, "The site's page") from error
        async for page in self._by_pin(tab, self._meagre.take()):
            yield page
        self._meagre.check()
        if self._listing.alone and (noted := self._noted(tab)):
            self._number += 1
            yield PageRead(number=self._number, way=WAY, media=noted)
        if self._unknown and not self._signatures:
            what = "; ".join(self._unknown[:3])
            raise Refused(Reason.UPSTREAM_CHANGED, f"No video could be read from the site's page ({what}).")

    async def _once(self, tab: Tab, listener: Listener) -> AsyncGenerator[PageRead, None]:
        """From one opening of the page to its end. Raises Refused, for good or for another opening."""
        listener.forget()
        tab.left()
        html = await tab.goto(self._listing.path)
        entries = self._listing.of(embedded(html))
        if entries:
            self._seen |= Envelope(results=entries).ids
            async for page in self._take(tab, Envelope(results=entries)):
                yield page
        bookmark: str | None = None
        self._refused = None
        heard, fullest, nudges = 0, 0, 0
        guard = _Guard()
        while nudges < NUDGES:
            await self._scroll(tab, nudges > 1)
            answer = await self._next(listener)
            if answer is None:
                nudges += 1
                continue
            _note_length(tab, answer)
            envelope = pinterest.envelope_in(answer)
            await self._pacer.answered()
            nudges, heard, self._refused = 0, heard + 1, None
            async for page in self._take(tab, envelope):
                yield page
            self._note_progress(envelope)
            bookmark = envelope.bookmark
            guard.check(envelope)
            if bookmark is None:
                await self._check_end(tab, answer.after, envelope, fullest)
            if pinterest.is_end(bookmark):
                return
            fullest = max(fullest, len(envelope.ids))
        if not heard and (pinterest.ends(html) or await self._has_no_more(tab, html, entries)):
            return
        raise self._stalled(tab, html, heard or len(entries))

    async def _scroll(self, tab: Tab, back: bool) -> None:
        async with answering(TIMED_OUT_S, "the page"):
            await tab.page.evaluate(_SCROLL, back)

    def _stalled(self, tab: Tab, html: str, told: int) -> Refused:
        """Why the page asks for nothing more."""
        if pinterest.is_login(tab.page.url) or (not told and pinterest.is_wall(html)):
            return Refused(Reason.LOGIN_REQUIRED, pinterest.LOGIN_PAGE)
        if self._refused is not None:
            return self._refused
        if told:
            return Refused(Reason.UPSTREAM_CHANGED, STALLED, transient=True)
        self._blank_left -= 1
        return Refused(Reason.UPSTREAM_CHANGED, NOTHING, transient=self._blank_left > 0)

    async def _has_no_more(self, tab: Tab, html: str, entries: list[object]) -> bool:
        """Whether a page whose HTML has results without a cursor, and which asks for nothing, shows all there is."""
        if not self._listing.known or not pinterest.lacks_cursor(html):
            return False
        try:
            first = await self._patience.fresh().of(lambda: ask(tab, self._listing.asked(None), self._pacer))
        except Refused as refusal:
            log.info("the end of the results is not sure", why=refusal.message)
            return False
        return pinterest.is_end(first.bookmark) and not first.lost and first.ids <= Envelope(results=entries).ids

    async def _check_end(self, tab: Tab, bookmark: str | None, envelope: Envelope, fullest: int) -> None:
        """A fault gives no cursor, as an end may. Raises Refused where this is not the end, or nothing tells so.

        `bookmark` is the cursor that the page asked with. A listing that cannot be asked for is taken at its word the
        second time, or where the page is not full.
        """

        async def asked(bookmark: str | None, size: int) -> Envelope:
            request = self._listing.asked(bookmark, size)
            return await self._patience.fresh().of(lambda: ask(tab, request, self._pacer))

        is_short = len(envelope.ids) < max(fullest, pinterest.USUAL_PAGE_SIZE)
        if not self._listing.known and (self._reopened or is_short):
            return
        try:
            if await is_last(asked, bookmark, envelope, fullest):
                return
        except Refused as refusal:
            log.info("the end of the results is not sure", why=refusal.message)
        transient, self._reopened = not self._reopened, True
        raise Refused(Reason.UPSTREAM_CHANGED, pinterest.LOST_CURSOR, transient=transient)

    def _note_progress(self, envelope: Envelope) -> None:
        """Patience begins anew with what is new only: what comes before a fault comes again with each opening."""
        pins = envelope.ids
        if pins - self._seen:
            self._seen |= pins
            self._patience.answered()
        if envelope.lost:
            raise Refused(Reason.UPSTREAM_CHANGED, pinterest.LOST)

    async def _next(self, listener: Listener) -> pinterest.Answer | None:
        """The next answer. A page that was refused tries again by itself: after a pause it gets the chance to."""
        try:
            return await listener.next(NUDGE_S)
        except Refused as refusal:
            self._refused = refusal
            await self._patience.wait(refusal)
            return None

    async def _take(self, tab: Tab, envelope: Envelope) -> AsyncGenerator[PageRead, None]:
        with page_span(WAY, self._number + 1) as span:
            extraction = self._extract(self._listing.of(envelope.results))
            self._number += 1
            read = page_read(WAY, self._number, extraction, span, envelope.unknown)
        if read.unknown:
            log.warning("the site's page is not as it was", unknown=read.unknown, page=self._number)
            self._unknown += read.unknown[: 10 - len(self._unknown)]
        if extraction.media or not extraction.gated:
            yield self._new(read)
        if not extraction.gated:
            self._meagre.note(extraction)
            return
        async for page in self._by_pin(tab, self._worth_asking(extraction)):
            yield page

    def _worth_asking(self, extraction: Extraction) -> list[str]:
        """The stubs, those with a badge for videos first."""
        ordered = dict.fromkeys([*extraction.badged, *extraction.stubs])
        return [stub for stub in ordered if stub not in self._asked_pins]

    async def _by_pin(self, tab: Tab, pins: list[str]) -> AsyncGenerator[PageRead, None]:
        async with aclosing(by_pin(tab, pins, self._pacer, self._patience)) as answers:
            async for batch, entries in answers:
                with page_span(WAY, self._number + 1) as span:
                    extraction = self._extract(entries)
                    self._number += 1
                    read = page_read(WAY, self._number, extraction, span, [])
                self._asked_pins.update(batch)
                yield self._new(read)

    def _extract(self, results: list[object]) -> Extraction:
        return extract(results, session=self._request.session, site=self._site, captured_at=time.time())

    def _new(self, read: PageRead) -> PageRead:
        """Without what an earlier opening of the page gave already."""
        new = [media for media in read.media if media.item not in self._given]
        self._given.update(media.item for media in new)
        self._signatures.update(media.signature for media in new)
        return PageRead(number=read.number, way=WAY, media=new, pins=read.pins, unknown=read.unknown)

    def _noted(self, tab: Tab) -> list[RawMedia]:
        """What the page asked to play and no pin told of."""
        by_signature: dict[str, list[str]] = {}
        for address in tab.noted:
            if (signature := signature_in(address)) and signature not in self._signatures:
                by_signature.setdefault(signature, []).append(address)
        return [
            RawMedia(
                session=self._request.session,
                item=f"media-{signature[:16]}",
                signature=signature,
                pin=Pin(),
                variants=[Variant(key=f"NOTED_{n}", url=address) for n, address in enumerate(addresses)],
                captured_at=time.time(),
            )
            for signature, addresses in by_signature.items()
        ]

    async def _on_request(self, tab: Tab, listener: Listener, route: Route, request: Request) -> None:
        """The page's own requests to resources: in their turn, for full pins, and as forms where they are too long."""
        try:
            if not self._listing.is_asked_by(request.url):
                await route.fallback()
                return
            with listener.held():
                await self._patience.fresh().turn()
            if request.method == "POST" and (form := request.post_data):
                await route.continue_(url=pinterest.ungated(request.url), post_data=pinterest.ungated_form(form))
            elif pinterest.length_of(request.url) >= tab.too_long:
                address, form = pinterest.as_form(pinterest.ungated(request.url))
                headers = {**request.headers, **await _form_headers(tab, address)}
                await route.continue_(url=address, method="POST", headers=headers, post_data=form)
            else:
                await route.continue_(url=pinterest.ungated(request.url))
        except Refused as held:
            listener.refused(held)
            with suppress(Error):
                await route.abort("blockedbyclient")
        except Error as error:  # the page went away meanwhile
            log.debug("a request was dropped with its page", why=error.message)
