"""How the browser is, for the metrics: looked at from time to time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import structlog

from libs.common import metrics
from libs.common.tasks import end
from services.crawler.browser import Browser

LOOK_S = 5.0

log = structlog.get_logger()


@asynccontextmanager
async def browser_measured(browser: Browser) -> AsyncIterator[None]:
    """Meanwhile."""
    task = asyncio.create_task(_look(browser), name="measure browser")
    try:
        yield
    finally:
        await end(task)


async def _look(browser: Browser) -> None:
    while True:
        metrics.browser_contexts.set(len(browser.open_tabs), {"state": "leased"})
        metrics.browser_contexts.set(browser.warm, {"state": "warm"})
        metrics.browser_sessions.set(browser.sessions)
        try:
            metrics.browser_memory.set(await browser.footprint_mb() * 2**20)
        except psutil.Error as error:  # its processes come and go while they are looked at
            log.debug("the browser could not be weighed", error=repr(error))
        await asyncio.sleep(LOOK_S)
