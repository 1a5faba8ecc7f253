"""The browser: one Chromium per process, and tabs of it for sessions."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType

import structlog
from playwright import async_api
from playwright.async_api import Error, Playwright, async_playwright

from libs.common.errors import StartFailed
from libs.common.tasks import end
from services.crawler.failure import BrowserFailed, Refused
from services.crawler.launch import find_executable, start, trust
from services.crawler.pacing import Pacer
from services.crawler.settings import CrawlerSettings
from services.crawler.tab import Tab

DRIVER_ADVICE = "run scripts/install, or: apt-get install libatomic1"
CLOSING_S = 1.0  # how long a session waits for its context to close, before it is left to close by itself
WARM_AFTER_S = 1.0  # until the next context is prepared, so that it does not take the processor from a first video

log = structlog.get_logger()


class Browser:
    """Chromium, kept running; `lease` gives a session a tab of its own.

    Entering raises StartFailed, with what to do, where there is no Chromium or it cannot be started.
    """

    def __init__(self, settings: CrawlerSettings) -> None:
        self.settings = settings
        self.pacer = Pacer(settings.requests_per_second)
        self._playwright: Playwright | None = None
        self._browser: async_api.Browser | None = None
        self._home: tempfile.TemporaryDirectory[str] | None = None
        self._warm: deque[asyncio.Task[Tab]] = deque()
        self._closing: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._slots = asyncio.Semaphore(settings.sessions)
        self._stopped = False
        self._reviving: asyncio.Task[None] | None = None
        self.open_tabs: set[Tab] = set()  # leased, until their contexts are closed

    @property
    def ready(self) -> bool:
        """Whether Chromium runs and answers."""
        return self._browser is not None and self._browser.is_connected()

    async def __aenter__(self) -> Browser:
        try:
            if self.settings.upstream_ca_file:
                self._home = await trust(self.settings.upstream_ca_file)
            self._playwright = await _driver()
            await self._running()
        except BaseException:
            await self._stop()
            raise
        self._warm_up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop()

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Tab]:
        """A tab in a context of its own, closed at the end. Raises BrowserFailed."""
        async with self._slots:
            tab = await self._take()
            self.open_tabs.add(tab)
            asyncio.get_running_loop().call_later(WARM_AFTER_S, self._warm_up)
            try:
                yield tab
            finally:
                self._warm_up()
                await self._close(tab)

    async def _take(self) -> Tab:
        await self._running()
        while self._warm:
            warming = self._warm.popleft()
            try:
                tab = await asyncio.shield(warming)
            except asyncio.CancelledError:
                self._discard(warming)
                raise
            except BrowserFailed as error:
                log.info("a warm context was lost", why=str(error))
                continue
            if tab.alive:
                return tab
            self._forget(tab)
        return await Tab.open(await self._running(), self.settings, self.pacer)

    async def _running(self) -> async_api.Browser:
        """Chromium, started anew where it is gone."""
        async with self._starting:
            if self._browser is not None and self._browser.is_connected():
                return self._browser
            if self._stopped or self._playwright is None:
                raise BrowserFailed("the browser was stopped")
            if self._browser is not None:
                log.warning("the browser is gone and is started again")
            try:
                home = Path(self._home.name) if self._home else None
                self._browser = await start(self._playwright, self.settings, home)
                self._browser.on("disconnected", self._on_disconnected)
            except StartFailed as error:
                if self._browser is None:
                    raise
                raise BrowserFailed(str(error)) from error
            return self._browser

    def _on_disconnected(self, browser: async_api.Browser) -> None:
        """Has Chromium started anew, so that the process can take work again before a session asks for it."""
        if not self._stopped:
            self._reviving = asyncio.create_task(self._revive(), name="revive browser")

    async def _revive(self) -> None:
        try:
            await self._running()
        except BrowserFailed as error:
            log.error("the browser cannot be started again", why=str(error))
        else:
            self._warm_up()

    def _warm_up(self) -> None:
        while not self._stopped and self.ready and len(self._warm) < self.settings.warm_contexts:
            self._warm.append(asyncio.create_task(self._warmed(), name="warm context"))

    async def _warmed(self) -> Tab:
        tab = await Tab.open(await self._running(), self.settings, self.pacer)
        try:
            await tab.land()
        except (Refused, BrowserFailed) as error:
            log.info("a warm context is not at the site yet", why=str(error))  # its session tries again, and says so
        except BaseException:
            self._forget(tab)
            raise
        return tab

    async def _close(self, tab: Tab) -> None:
        await asyncio.wait({self._forget(tab)}, timeout=CLOSING_S)

    def _forget(self, tab: Tab) -> asyncio.Task[None]:
        task = asyncio.create_task(tab.close(), name="close context")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        task.add_done_callback(lambda _: self.open_tabs.discard(tab))
        return task

    def _discard(self, warming: asyncio.Task[Tab]) -> None:
        """Sees to it that a warm context which nobody waits for any more is kept for the next session."""
        if not self._stopped:
            self._warm.appendleft(warming)
        else:
            warming.cancel()

    async def _stop(self) -> None:
        self._stopped = True
        if self._reviving is not None:
            await end(self._reviving)
        for warming in self._warm:
            warming.cancel()
        await asyncio.gather(*self._warm, return_exceptions=True)
        self._warm.clear()
        if self._closing:
            await asyncio.wait(set(self._closing), timeout=CLOSING_S)
        try:
            if self._browser is not None:
                await self._browser.close()
        except Error as error:
            log.info("the browser was gone before it was closed", why=error.message)
        if self._playwright is not None:
            await self._playwright.stop()
        if self._home is not None:
            self._home.cleanup()


async def _driver() -> Playwright:
    try:
        return await async_playwright().start()
    except Exception as error:  # Playwright has no type for it; the service does not start, and says this
        raise StartFailed(f"Playwright's driver does not start ({error}); {DRIVER_ADVICE}") from error


async def find(settings: CrawlerSettings) -> str:
    """The path of the Chromium that would be run. Raises StartFailed."""
    playwright = await _driver()
    try:
        return find_executable(playwright, settings.browser_executable)
    finally:
        await playwright.stop()


def main(argv: Sequence[str]) -> int:
    """`python -m services.crawler.browser --find` prints the path of Chromium, or says how to get one and exits 1."""
    if list(argv) != ["--find"]:
        sys.stderr.write("usage: python -m services.crawler.browser --find\n")
        return 2
    from os import environ

    from libs.common.errors import BadSetting
    from libs.common.settings import from_environment

    try:
        sys.stdout.write(asyncio.run(find(from_environment(CrawlerSettings, environ))) + "\n")
    except (StartFailed, BadSetting) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
