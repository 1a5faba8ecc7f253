"""One run of Chromium: with a driver of its own, which grows as it does, and the contexts kept warm in it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from weakref import WeakKeyDictionary

import psutil
import structlog
from playwright.async_api import Browser, Error, Playwright, async_playwright

from libs.common.errors import StartFailed
from libs.common.tasks import end, result_of
from services.crawler.failure import BrowserFailed, Refused
from services.crawler.footprint import footprint_mb, tree_of
from services.crawler.launch import start
from services.crawler.pacing import Pacer
from services.crawler.settings import CrawlerSettings
from services.crawler.shared_tabs import SharedTab, SharedTabs
from services.crawler.tab import ANSWERS_S, Tab

DRIVER_ADVICE = "run scripts/install, or: apt-get install libatomic1"
DRIVER_COMMAND = "run-driver"
ENDING_S = 5.0  # how long a Chromium, and then its driver, may take to end before they are killed
CLOSING_S = 1.0  # how long contexts are waited for that are being closed, before they are left to close by themselves

log = structlog.get_logger()
_starts: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


class Chromium:
    """Runs from `started` to `close`. `sessions` is how many it has served, those that it serves now included."""

    def __init__(
        self, settings: CrawlerSettings, pacer: Pacer, playwright: Playwright, process: psutil.Process | None
    ) -> None:
        self.sessions = 0
        self._settings = settings
        self._pacer = pacer
        self._playwright = playwright
        self._process = process  # the driver's; None where it is not to be found
        self._browser: Browser | None = None
        self._started_at = time.monotonic()
        self._leases = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._retired = self._silent = False
        self._warm: deque[asyncio.Task[Tab]] = deque()
        self._closing: set[asyncio.Task[None]] = set()
        self._dropped: set[asyncio.Task[Tab]] = set()
        self._shared = SharedTabs(settings.feed_contexts, self._new_tab, self.forget, self._has_warm)

    @classmethod
    async def started(
        cls, settings: CrawlerSettings, pacer: Pacer, home: Path | None, on_gone: Callable[[Chromium], None]
    ) -> Chromium:
        """A new one; `on_gone` is called when it ends. Raises StartFailed."""
        async with _starts.setdefault(asyncio.get_running_loop(), asyncio.Lock()):  # so that the new driver is its own
            before = _drivers()
            playwright = await driver()
            process = next(iter(_drivers() - before), None)
        chromium = cls(settings, pacer, playwright, process)
        try:
            chromium._browser = await start(playwright, settings, home)
        except BaseException:
            await playwright.stop()
            raise
        chromium._browser.on("disconnected", lambda _: on_gone(chromium))
        return chromium

    @property
    def runs(self) -> bool:
        """Whether it answers: Playwright does not notice where its driver dies."""
        if self._silent or self._browser is None or not self._browser.is_connected():
            return False
        try:
            return self._process is None or self._process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        except psutil.NoSuchProcess:
            return False

    async def end_unless_it_answers(self) -> None:
        """Kills it where it stands still, so that those who wait for it learn of it and another is started."""
        if self._browser is None or not self.runs:
            return
        try:
            async with asyncio.timeout(ANSWERS_S):
                session = await self._browser.new_browser_cdp_session()
                await session.send("Browser.getVersion")
                await session.detach()
        except TimeoutError:
            log.warning("the browser stands still and is killed")
            self._silent = True
            self._kill()
        except Error as error:
            log.info("the browser was gone before it was asked whether it answers", why=error.message)

    @property
    def age_s(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._started_at

    async def footprint_mb(self) -> float:
        """The memory of all its processes and its driver's, in MB; 0 where these are not to be found."""
        return 0.0 if self._process is None else await asyncio.to_thread(footprint_mb, self._process.pid)

    async def take(self) -> Tab:
        """A tab in a context of its own, a warm one if there is; to be given to `give_back`. Raises BrowserFailed."""
        self._began()
        try:
            return await self._new_tab()
        except BaseException:
            self._ended()
            raise

    async def join(self) -> tuple[SharedTab, Tab]:
        """A tab that other sessions may share; to be given to `leave`. Raises BrowserFailed."""
        self._began()
        try:
            return await self._shared.join()
        except BaseException:
            self._ended()
            raise

    async def leave(self, shared: SharedTab, tab: Tab, on_closed: Callable[[Tab], None]) -> None:
        """Closes the tab, with its context, after the last of its sessions."""
        if self._shared.left(shared):
            await self.give_back(tab, on_closed)
        else:
            self._ended()

    async def give_back(self, tab: Tab, on_closed: Callable[[Tab], None]) -> None:
        """Closes the tab, with its context."""
        closing = self.forget(tab)
        closing.add_done_callback(lambda _: on_closed(tab))
        try:
            await asyncio.wait({closing}, timeout=CLOSING_S)
        finally:
            self._ended()

    def forget(self, tab: Tab) -> asyncio.Task[None]:
        """Has the tab closed, with its context."""
        task = asyncio.create_task(tab.close(), name="close context")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    def warm_up(self) -> None:
        """Has as many contexts prepared as shall be ready."""
        while not self._retired and self.runs and len(self._warm) < self._settings.warm_contexts:
            self._warm.append(asyncio.create_task(self._warmed(), name="warm context"))

    async def warmed_up(self, timeout_s: float) -> None:
        """Returns when they are ready, or after `timeout_s`."""
        self.warm_up()
        if self._warm:
            await asyncio.wait(set(self._warm), timeout=timeout_s)

    def retire(self) -> None:
        """It takes no more sessions; those that it has go on, and its warm contexts are dropped."""
        self._retired = True
        while self._warm:
            self._drop(self._warm.popleft())

    async def drained(self) -> None:
        """Returns when its last session has given its tab back."""
        await self._idle.wait()

    async def close(self) -> None:
        """Ends it and its driver, whatever runs in it."""
        self.retire()
        if self._dropped:
            await asyncio.wait(set(self._dropped), timeout=CLOSING_S)
        if self._closing:
            await asyncio.wait(set(self._closing), timeout=CLOSING_S)
        try:
            if self._browser is not None:
                async with asyncio.timeout(ENDING_S):
                    await self._browser.close()
        except (Error, TimeoutError) as error:
            log.info("the browser was gone before it was closed", why=str(error))
            self._kill()
        stopping = asyncio.create_task(self._playwright.stop(), name="stop driver")
        if not (await asyncio.wait({stopping}, timeout=ENDING_S))[0]:
            log.warning("the browser's driver stands still and is killed")
            self._kill(driver=True)
        await asyncio.wait({stopping}, timeout=ENDING_S)
        await end(stopping)

    def _kill(self, *, driver: bool = False) -> None:
        if self._process is not None:
            for process in tree_of(self._process.pid)[0 if driver else 1 :]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    async def _new_tab(self) -> Tab:
        return await self._warm_tab() or await self._opened()

    @property
    def warm(self) -> int:
        """How many contexts are ready."""
        return sum(result_of(warming) is not None for warming in self._warm)

    def _has_warm(self) -> bool:
        return self.warm > 0

    async def _warm_tab(self) -> Tab | None:
        while self._warm:
            warming = self._warm.popleft()
            try:
                tab = await asyncio.shield(warming)
            except asyncio.CancelledError:
                self._keep(warming)
                raise
            except BrowserFailed as error:
                log.info("a warm context was lost", why=str(error))
                continue
            if tab.alive:
                if tab.stale:
                    tab.left()  # it is landed anew
                return tab
            self.forget(tab)
        return None

    async def _opened(self) -> Tab:
        if self._browser is None:
            raise BrowserFailed("the browser was stopped")
        return await Tab.open(self._browser, self._settings, self._pacer)

    async def _warmed(self) -> Tab:
        tab = await self._opened()
        try:
            await tab.land()
        except (Refused, BrowserFailed) as error:
            log.info("a warm context is not at the site yet", why=str(error))  # its session tries again, and says so
        except BaseException:
            self.forget(tab)
            raise
        return tab

    def _keep(self, warming: asyncio.Task[Tab]) -> None:
        """Sees to it that a warm context which nobody waits for any more is there for the next session."""
        if self._retired:
            self._drop(warming)
        else:
            self._warm.appendleft(warming)

    def _drop(self, warming: asyncio.Task[Tab]) -> None:
        if not warming.done():
            self._dropped.add(warming)
            warming.add_done_callback(self._dropped.discard)
            warming.cancel()  # it closes what it has opened
        elif (tab := result_of(warming)) is not None:
            self.forget(tab)

    def _began(self) -> None:
        self._leases += 1
        self.sessions += 1
        self._idle.clear()

    def _ended(self) -> None:
        self._leases -= 1
        if self._leases == 0:
            self._idle.set()


async def driver() -> Playwright:
    """Playwright with a driver of its own. Raises StartFailed."""
    try:
        return await async_playwright().start()
    except Exception as error:  # Playwright has no type for it; the service does not start, and says this
        raise StartFailed(f"Playwright's driver does not start ({error}); {DRIVER_ADVICE}") from error


def _drivers() -> set[psutil.Process]:
    """The processes of Playwright's drivers that this process runs; Playwright itself does not tell."""
    found = set()
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if DRIVER_COMMAND in child.cmdline():
                found.add(child)
    return found
