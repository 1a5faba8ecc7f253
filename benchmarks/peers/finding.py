"""One run of one contender: what it found, when, how it ended, and what it took."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec

from libs.common.tasks import end
from services.crawler.footprint import footprint_mb
from tests.fake_pinterest import RunningSite

SIGNATURE = re.compile(r"/videos/(?!thumbnails/|captions/)\S*?/([0-9a-f]{32})")
SAMPLE_S = 0.2
ASKING_S = 60.0  # a stand-in that sends a body without an end is slow to say what it saw
SITE_KINDS = ("Resource", "home", "search_page", "pin_page", "other_page")
MEMORY_LIMIT_MB = 2500.0  # beyond it a run is ended: a body that never ends would take the machine


class Finding(msgspec.Struct, kw_only=True):
    """Seconds are from when it was asked. `ended` is empty where it said that it was done, and `said` its own words."""

    videos: dict[str, list[str]] = {}  # by signature, every address that was given
    came_s: list[float] = []  # when each was given first
    total_s: float = 0.0
    ended: str = ""
    code: int | None = None
    said: str = ""
    memory_mb: float = 0.0
    site_requests: int = 0
    cdn_requests: int = 0
    load: float = 0.0

    def add(self, addresses: list[str], at_s: float) -> None:
        """Addresses that came together; what is no video of the site's CDN is passed over."""
        for address in addresses:
            match = SIGNATURE.search(address)
            if match is None:
                continue
            if match[1] not in self.videos:
                self.came_s.append(at_s)
            self.videos.setdefault(match[1], []).append(address)

    @property
    def first_s(self) -> float | None:
        """When the first video came."""
        return self.came_s[0] if self.came_s else None


async def counted(site: RunningSite, finding: Finding) -> None:
    """Adds what the stand-in was asked since it was last told to forget."""
    async with httpx2.AsyncClient(trust_env=False, timeout=ASKING_S) as client:
        seen: dict[str, Any] = (await client.get(f"{site.origin}/_stand_in/requests")).json()
    for other in ("statuses", "total", "stand_in"):
        seen.pop(other, None)
    finding.site_requests = sum(n for kind, n in seen.items() if kind.endswith(SITE_KINDS))
    finding.cdn_requests = sum(seen.values()) - finding.site_requests


async def forget(site: RunningSite) -> None:
    """Begins to count anew."""
    async with httpx2.AsyncClient(trust_env=False, timeout=ASKING_S) as client:
        await client.delete(f"{site.origin}/_stand_in/requests")


@asynccontextmanager
async def measured(
    finding: Finding, pids: list[int], task: asyncio.Future[Any] | None = None, most_mb: float = MEMORY_LIMIT_MB
) -> AsyncIterator[None]:
    """Keeps the most memory that the trees under `pids` take meanwhile; cancels `task` where it is too much."""

    async def watch() -> None:
        while True:
            now_mb = await asyncio.to_thread(lambda: sum(map(footprint_mb, pids)))
            finding.memory_mb = max(finding.memory_mb, now_mb)
            if task is not None and now_mb > most_mb:
                finding.ended = "memory"
                task.cancel()
                return
            await asyncio.sleep(SAMPLE_S)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        await end(watching)


def since(began: float) -> float:
    """Seconds since a moment of the monotonic clock."""
    return time.monotonic() - began
