"""A browser context of its own with one page: what a session reads with."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from math import inf
from typing import NamedTuple

import structlog
from playwright.async_api import Browser, BrowserContext, Error, Page, Request, Response, Route

from libs.common.messages import Reason
from libs.common.site_metrics import counted
from services.crawler.address import is_media
from services.crawler.failure import (
    GRACE_S,
    TIMED_OUT_S,
    BrowserFailed,
    Refused,
    answering,
    from_playwright,
    timed_out,
)
from services.crawler.launch import Allowed
from services.crawler.pacing import Pacer
from services.crawler.pinterest import LOGIN_PAGE, is_login, refusal_by
from services.crawler.settings import CrawlerSettings

ANSWERS_S = 20.0  # a browser that tells nothing of itself within it stands still; on a busy machine 5 s are too few
FRESH_S = 900.0  # a page kept longer at the site is opened anew before a session gets it, for its cookies

log = structlog.get_logger()

_DROPPED = frozenset({"image", "font", "stylesheet", "media", "texttrack", "manifest", "eventsource", "websocket"})
_MOST_NOTED = 2_000


class Followed(NamedTuple):
    """Where an address led to, and how that answered; `failure` is set where it could not be opened."""

    address: str
    status: int | None
    retry_after: str | None
    failure: Refused | None


class Tab:
    """`noted` are the addresses of media that the page asked for, in order; `rendering` lets its scripts run."""

    def __init__(self, context: BrowserContext, page: Page, settings: CrawlerSettings, pacer: Pacer) -> None:
        self.context = context
        self.page = page
        self.noted: dict[str, None] = {}
        self.rendering = False
        self.crashed = False
        self.too_long: float = inf  # the length of a path and query that the site did not take
        self.last_failure: str | None = None
        self.last_status: tuple[int, str | None] | None = None  # of the last page: its status and Retry-After
        self._settings = settings
        self._allowed = Allowed.by(settings)
        self._pacer = pacer
        self._landed_at: float | None = None
        self._landing = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        context.on("page", self._on_popup)
        page.on("crash", self._on_crash)
        page.on("response", self._on_response)
        page.on("requestfailed", self._on_failure)

    @classmethod
    async def open(cls, browser: Browser, settings: CrawlerSettings, pacer: Pacer) -> Tab:
        """A new one, nowhere yet. Raises BrowserFailed."""
        context: BrowserContext | None = None
        try:
            async with answering(TIMED_OUT_S, "the browser"):
                context = await browser.new_context(
                    service_workers="block", accept_downloads=False, permissions=[], locale="en-US"
                )
                page = await context.new_page()
                tab = cls(context, page, settings, pacer)
                # The feed's own requests are left out: a turn through Python costs each some milliseconds.
                feed = re.escape(f"{settings.site}/resource/")
                await context.route(re.compile(f"^(?!{feed})"), tab._on_request)
        except BaseException as error:
            if context is not None:
                await asyncio.shield(_closed_in_time(context))
            if isinstance(error, Error):
                raise BrowserFailed(error.message.split("\n", 1)[0]) from error
            raise
        return tab

    @property
    def alive(self) -> bool:
        """Whether the page can still be used."""
        return not self.crashed and not self.page.is_closed()

    @property
    def landed(self) -> bool:
        """Whether the page is at the site, so that fetch works in it as the site's own would."""
        return self._landed_at is not None

    @property
    def stale(self) -> bool:
        """Whether the page has been kept at the site for too long to be given to a session."""
        return self._landed_at is not None and time.monotonic() - self._landed_at > FRESH_S

    def left(self) -> None:
        """The page is no longer where it was."""
        self._landed_at = None

    async def land(self) -> None:
        """Opens the site's first page, unless it is open. Raises Refused or BrowserFailed."""
        async with self._landing:
            if not self.landed:
                await self.goto("/")

    async def goto(self, path: str) -> str:
        """Opens a page of the site and returns its HTML. Raises Refused or BrowserFailed."""
        self._landed_at = None
        await self._pacer.turn(probe=path != "/")  # that the first page comes says little
        try:
            response = await self._opened(self._settings.site + path)
            self._landed_at = time.monotonic()
            if response is None or path == "/":
                return ""  # whatever the status, the page is at the site's origin; the feed's answers tell the rest
            if refusal := refusal_by(response.status, response.headers.get("retry-after"), None):
                raise refusal
            if is_login(self.page.url):
                raise Refused(Reason.LOGIN_REQUIRED, LOGIN_PAGE)
            async with asyncio.timeout(TIMED_OUT_S):
                return await response.text()
        except TimeoutError as error:
            raise timed_out("A page of the site") from error
        except Error as error:
            if "ERR_HTTP_RESPONSE_CODE_FAILURE" in error.message:  # an error without a body, of which the page is gone
                if self.last_status and (refusal := refusal_by(*self.last_status, None)):
                    raise refusal from error
                message = "The site answers with an error of its own; try again later."
                raise Refused(Reason.UNREACHABLE, message, transient=True) from error
            raise await self._failure(error, "A page of the site") from error

    def failure(self, error: Error, what: str) -> Refused | BrowserFailed:
        """What an error of the page means, by where the page is."""
        failure = from_playwright(error, what)
        if isinstance(failure, Refused) and failure.transient and is_login(self.page.url):
            return Refused(Reason.LOGIN_REQUIRED, LOGIN_PAGE)
        return failure

    async def _opened(self, address: str) -> Response | None:
        async with answering(TIMED_OUT_S + GRACE_S, "the browser"):
            return await self.page.goto(address, wait_until="commit", timeout=TIMED_OUT_S * 1000)

    async def _failure(self, error: Error, what: str) -> Refused | BrowserFailed:
        """What it means; a browser that opens nothing may be standing still. Raises Silent."""
        failure = self.failure(error, what)
        if isinstance(failure, Refused) and failure.took_s:
            async with answering(ANSWERS_S, "the browser"):
                with suppress(Error):
                    await self.context.cookies()
        return failure

    async def follow(self, address: str) -> Followed:
        """Opens an address that leads to another, and says to which: the last that was asked for, if in vain.

        Raises BrowserFailed.
        """
        self.left()
        asked: list[str] = []

        def note(request: Request) -> None:
            if request.is_navigation_request() and request.frame == self.page.main_frame:
                asked.append(request.url)

        await self._pacer.turn()
        self.page.on("request", note)
        try:
            response = await self._opened(address)
        except Error as error:
            failure = await self._failure(error, "A short link")
            if isinstance(failure, BrowserFailed):
                raise failure from error
            return Followed(asked[-1] if asked else address, None, None, failure)
        finally:
            self.page.remove_listener("request", note)
        status = response.status if response else None
        return Followed(self.page.url, status, response.headers.get("retry-after") if response else None, None)

    async def close(self) -> None:
        """Ends the context with all that is in it."""
        await _closed_in_time(self.context)
        if self._closing:
            await asyncio.wait(set(self._closing))

    async def _on_request(self, route: Route, request: Request) -> None:
        try:
            if is_media(request.url):
                if len(self.noted) < _MOST_NOTED:
                    self.noted[request.url] = None
                await route.abort("blockedbyclient")
            elif not self._wanted(request):
                await route.abort("blockedbyclient")
            else:
                await route.continue_()
        except Error as error:  # the page went away meanwhile
            log.debug("a request was dropped with its page", why=error.message)

    def _wanted(self, request: Request) -> bool:
        kind = request.resource_type
        if kind in _DROPPED or not self._allowed.has(request.url):
            return False
        return self.rendering or (kind == "document" and request.is_navigation_request())

    def _on_popup(self, page: Page) -> None:
        """Closes what the page opened: nothing that is wanted comes so."""
        closing = asyncio.create_task(self._closed(page), name="close popup")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _closed(self, page: Page) -> None:
        try:
            async with asyncio.timeout(TIMED_OUT_S):
                await page.close()
        except (Error, TimeoutError) as error:
            log.debug("a popup was gone before it was closed", why=str(error))

    def _on_crash(self, page: Page) -> None:
        self.crashed = True

    def _on_response(self, response: Response) -> None:
        if response.request.is_navigation_request():
            self.last_status = (response.status, response.headers.get("retry-after"))
            counted("page", response.status)

    def _on_failure(self, request: Request) -> None:
        if request.failure and "BLOCKED_BY_CLIENT" not in request.failure:
            self.last_failure = request.failure


async def _closed_in_time(context: BrowserContext) -> None:
    """Closes it; one of a browser that stands still goes with that."""
    try:
        async with asyncio.timeout(TIMED_OUT_S):
            await context.close()
    except (Error, TimeoutError) as error:
        log.debug("a context was gone before it was closed", why=str(error))
