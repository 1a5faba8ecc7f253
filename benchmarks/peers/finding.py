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
SITE_KINDS = ("Resource", "home", "search_page", "pin_page", "other_page")
MEMORY_LIMIT_MB = 1500  # beyond it a run is ended: a body that never ends would take the machine


class Finding(msgspec.Struct, kw_only=True):
    """Seconds are from when it was asked. `ended` is empty where it said that it was done, and `said` its own words."""

    videos: dict[str, list[str]] = {}  # by signature, every address that was given
    first_s: float | None = None
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
            if self.first_s is None:
                self.first_s = at_s
            self.videos.setdefault(match[1], []).append(address)


async def counted(site: RunningSite, finding: Finding) -> None:
    """Adds what the stand-in was asked since it was last told to forget."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        seen: dict[str, Any] = (await client.get(f"{site.origin}/_stand_in/requests")).json()
    seen.pop("statuses"), seen.pop("total"), seen.pop("stand_in", None)
    finding.site_requests = sum(n for kind, n in seen.items() if kind.endswith(SITE_KINDS))
    finding.cdn_requests = sum(seen.values()) - finding.site_requests


async def forget(site: RunningSite) -> None:
    """Begins to count anew."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        await client.delete(f"{site.origin}/_stand_in/requests")


class TooMuchMemory(Exception):
    """A contender took more than it may."""


@asynccontextmanager
async def measured(finding: Finding, pids: list[int], task: asyncio.Task[Any] | None = None) -> AsyncIterator[None]:
    """Keeps the most memory that the trees under `pids` take meanwhile; cancels `task` where it is too much."""

    async def watch() -> None:
        while True:
            now_mb = await asyncio.to_thread(lambda: sum(map(footprint_mb, pids)))
            finding.memory_mb = max(finding.memory_mb, now_mb)
            if task is not None and now_mb > MEMORY_LIMIT_MB:
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
