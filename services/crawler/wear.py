"""When a Chromium has served long enough: by its age, its sessions, its memory."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import NamedTuple

from services.crawler.chromium import Chromium
from services.crawler.settings import CrawlerSettings

CHECK_S = 10.0  # between two looks where no session ends
WEIGH_S = 5.0  # least between two looks at the memory, which the kernel adds up for some 10 ms
LEAST_SESSIONS = (
    10  # that each serves, so that a limit below the memory of a new one does not make new ones without end
)


class Worn(NamedTuple):
    """`by` is age, sessions or memory; `why` says it in words."""

    by: str
    why: str


class Wear:
    """Looks at a Chromium after each session and from time to time."""

    def __init__(self, settings: CrawlerSettings) -> None:
        self._settings = settings
        self._noted = asyncio.Event()
        self._weighed_at = 0.0

    def note(self) -> None:
        """A session has ended: there is something to look at."""
        self._noted.set()

    async def due(self) -> None:
        """Returns when it is time for a look."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CHECK_S):
                await self._noted.wait()
        self._noted.clear()

    async def of(self, chromium: Chromium) -> Worn | None:
        """Why `chromium` is to be replaced, or None."""
        limits = self._settings
        if limits.browser_max_age_s and chromium.age_s >= limits.browser_max_age_s:
            return Worn("age", f"it is {chromium.age_s:.0f} s old")
        if limits.browser_max_sessions and chromium.sessions >= limits.browser_max_sessions:
            return Worn("sessions", f"it has served {chromium.sessions} sessions")
        if not limits.browser_max_mb or chromium.sessions < LEAST_SESSIONS or self._weighed_lately():
            return None
        self._weighed_at = time.monotonic()
        weight_mb = await chromium.footprint_mb()
        return Worn("memory", f"it takes {weight_mb:.0f} MB") if weight_mb > limits.browser_max_mb else None

    def _weighed_lately(self) -> bool:
        return time.monotonic() - self._weighed_at < WEIGH_S
