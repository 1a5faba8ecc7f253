"""The browser: one Chromium per process, replaced before it grows too large, and tabs of it for sessions."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType

import structlog

from libs.common import metrics
from libs.common.errors import StartFailed
from libs.common.lane import Lane
from libs.common.tasks import end
from services.crawler.chromium import Chromium, driver
from services.crawler.failure import BrowserFailed, Silent
from services.crawler.launch import find_executable, trust
from services.crawler.pacing import Pacer, own_lane
from services.crawler.settings import CrawlerSettings
from services.crawler.tab import Tab
from services.crawler.wear import Wear, Worn

WARM_AFTER_S = 1.0  # until the next context is prepared, so that it does not take the processor from a first video
WARMING_S = 5.0  # longest that a new Chromium's contexts are waited for before it serves
STARTING_S = 10.0  # longest that a start under way is waited for at the end
RETRY_S = 60.0  # after a replacement that could not be started

GiveBack = Callable[[Tab, Callable[[Tab], None]], Awaitable[None]]

log = structlog.get_logger()


class Browser:
    """Chromium, kept running; `lease` gives a session a tab of its own.

    Where Chromium is worn (`wear.py`) another is started, which takes the sessions that come then; those of the old one
    go on in it, and it is closed after the last. There are never more than two.

    Requests to the site take their turn in the lane `shared`, or in one of this process alone.

    Entering raises StartFailed, with what to do, where there is no Chromium or it cannot be started.
    """

    def __init__(self, settings: CrawlerSettings, shared: Lane | None = None) -> None:
        self.settings = settings
        self.pacer = Pacer(shared or own_lane(settings))
        self.open_tabs: set[Tab] = set()  # leased, until their contexts are closed
        self.sessions = 0  # that have a tab now
        self.replaced = 0  # how often Chromium was worn, and another took its place
        self._chromium: Chromium | None = None
        self._running: set[Chromium] = set()  # not closed yet
        self._starting: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._replacing: asyncio.Task[None] | None = None
        self._wear = Wear(settings)
        self._home: tempfile.TemporaryDirectory[str] | None = None
        self._slots = asyncio.Semaphore(settings.sessions)
        self._pages = asyncio.Semaphore(settings.page_sessions)
        self._stopped = False
        metrics.at_zero(metrics.browser_recycles, why=("age", "sessions", "memory", "gone"))

    @property
    def ready(self) -> bool:
        """Whether Chromium runs and answers."""
        return self._chromium is not None and self._chromium.runs

    @property
    def warm(self) -> int:
        """How many contexts are ready for sessions to come."""
        return sum(chromium.warm for chromium in self._running)

    async def footprint_mb(self) -> float:
        """The memory of every Chromium that runs, with its driver's, in MB."""
        return sum([await chromium.footprint_mb() for chromium in self._running])

    async def __aenter__(self) -> Browser:
        try:
            if self.settings.upstream_ca_file:
                self._home = await trust(self.settings.upstream_ca_file)
            await self._start()
        except BaseException:
            await self._stop()
            raise
        self._warm_up()
        self._replacing = asyncio.create_task(self._replace_when_worn(), name="replace browser")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop()

    @property
    def busy(self) -> bool:
        """Whether `lease` waits for another session's end."""
        return self._pages.locked()

    @asynccontextmanager
    async def share(self) -> AsyncIterator[Tab]:
        """A tab that other sessions may share, to fetch with and not to go elsewhere. Raises BrowserFailed."""
        async with self._slots:
            chromium = await self._ready_one()
            async with _watched(chromium):
                shared, tab = await chromium.join()
                async with self._used(tab, partial(chromium.leave, shared)):
                    yield tab

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Tab]:
        """A tab in a context of its own, closed at the end. Raises BrowserFailed."""
        async with self._pages:
            chromium = await self._ready_one()
            async with _watched(chromium):
                tab = await chromium.take()
                async with self._used(tab, chromium.give_back):
                    yield tab

    @asynccontextmanager
    async def _used(self, tab: Tab, give_back: GiveBack) -> AsyncIterator[None]:
        self.sessions += 1
        self.open_tabs.add(tab)
        asyncio.get_running_loop().call_later(WARM_AFTER_S, self._warm_up)
        try:
            yield
        except Silent:
            tab.crashed = True  # those that share it need not wait for it too
            raise
        finally:
            self._warm_up()
            self.sessions -= 1
            await give_back(tab, self.open_tabs.discard)
            self._wear.note()

    async def _ready_one(self) -> Chromium:
        """The Chromium that serves, started anew where it is gone."""
        while self._chromium is None or not self._chromium.runs:
            if self._stopped:
                raise BrowserFailed("the browser was stopped")
            try:
                await self._start()
            except StartFailed as error:
                raise BrowserFailed(str(error)) from error
        return self._chromium

    async def _start(self, worn: Worn | None = None) -> None:
        """Has another Chromium serve; waits for the start under way where there is one. Raises StartFailed.

        Whoever waits may be cancelled; the start goes on, so that nothing is ever left half started.
        """
        if self._starting is None:
            self._starting = asyncio.create_task(self._started(worn), name="start browser")
            self._starting.add_done_callback(self._on_started)
        await asyncio.shield(self._starting)

    async def _started(self, worn: Worn | None) -> None:
        if self._chromium is not None and not self._chromium.runs:
            log.warning("the browser is gone and is started again")
            metrics.browser_recycles.add(1, {"why": "gone"})
        home = Path(self._home.name) if self._home else None
        chromium = await Chromium.started(self.settings, self.pacer, home, self._on_gone)
        self._running.add(chromium)
        if worn is not None:
            await chromium.warmed_up(WARMING_S)
            if not chromium.runs:
                await self._close(chromium)
                raise StartFailed("the browser that was to take over ended at once")
            self.replaced += 1
            metrics.browser_recycles.add(1, {"why": worn.by})
            log.info("a new browser serves", why=worn.why, replaced=self.replaced)
        old, self._chromium = self._chromium, chromium
        if old is not None:
            old.retire()
            closing = asyncio.create_task(self._close(old), name="close browser")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _on_started(self, starting: asyncio.Task[None]) -> None:
        self._starting = None
        if not starting.cancelled() and (error := starting.exception()) and self._chromium is not None:
            log.error("the browser cannot be started", why=str(error))

    async def _close(self, chromium: Chromium) -> None:
        await chromium.drained()
        await chromium.close()
        self._running.discard(chromium)
        log.info("a browser was closed", sessions=chromium.sessions, age_s=round(chromium.age_s))

    async def _replace_when_worn(self) -> None:
        while True:
            await self._wear.due()
            chromium = self._chromium
            if chromium is None:
                continue
            if not chromium.runs:
                self._on_gone(chromium)
                continue
            if len(self._running) > 1:
                continue  # the one before still has sessions
            worn = await self._wear.of(chromium)
            if worn is None or chromium is not self._chromium:
                continue
            try:
                await self._start(worn)
            except StartFailed:  # logged where it was found; the old one goes on
                await asyncio.sleep(RETRY_S)

    def _on_gone(self, chromium: Chromium) -> None:
        """Has Chromium started anew, so that the process can take work again before a session asks for it."""
        if chromium is self._chromium and not self._stopped:
            reviving = asyncio.create_task(self._revive(), name="revive browser")
            self._closing.add(reviving)
            reviving.add_done_callback(self._closing.discard)

    async def _revive(self) -> None:
        try:
            await self._ready_one()
        except BrowserFailed as error:
            log.error("the browser cannot be started again", why=str(error))
        else:
            self._warm_up()

    def _warm_up(self) -> None:
        if self._chromium is not None and not self._stopped:
            self._chromium.warm_up()

    async def _stop(self) -> None:
        self._stopped = True
        if self._replacing is not None:
            await end(self._replacing)
        if (starting := self._starting) is not None:
            await asyncio.wait({starting}, timeout=STARTING_S)
            await end(starting)
        await end(*self._closing)
        for chromium in list(self._running):
            await chromium.close()
        if self._home is not None:
            self._home.cleanup()


@asynccontextmanager
async def _watched(chromium: Chromium) -> AsyncIterator[None]:
    """Has a Chromium ended that a session had no answer of, unless it was its page alone."""
    try:
        yield
    except Silent:
        await chromium.end_unless_it_answers()
        raise


async def find(settings: CrawlerSettings) -> str:
    """The path of the Chromium that would be run. Raises StartFailed."""
    playwright = await driver()
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
