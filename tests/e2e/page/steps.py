"""What the tests of the page do: start a gateway, open the page, search, and write what services would have found."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
import urllib.parse
from asyncio import create_subprocess_exec
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Locator, Page, expect

from libs.common import subjects
from libs.common.health import listen
from libs.common.messages import Board, CrawledRecord, Creator, Kind, Pin, Reason, Video, VideoRecord
from libs.common.session_log import SessionLog
from tests.wait import wait_until

ROOT = Path(__file__).parents[3]
MEDIA = ROOT / "tests" / "fake_pinterest" / "media"
CHROMIUM = shutil.which("chromium")  # None: the one that Playwright installed
AT_ONCE = 200  # records that are being written

expect.set_options(timeout=20_000)  # ms; the machine may be running other tests beside these


class Gateway:
    """A gateway in a process of its own, at an address that outlives it."""

    def __init__(self, nats_url: str, output: Path, **environ: str) -> None:
        with listen("127.0.0.1", 0) as sock:
            port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"
        self.environment = {**os.environ, "NATS_URL": nats_url, "GATEWAY_PORT": str(port), **environ}
        self.output = output
        self.process: Process | None = None

    async def start(self) -> None:
        """Returns when it listens."""
        before = self._announced()
        with self.output.open("ab") as output:
            self.process = await create_subprocess_exec(
                sys.executable, "-m", "services.gateway", cwd=ROOT, env=self.environment, stdout=output, stderr=output
            )
        await wait_until(lambda: self._announced() > before, "the gateway listens")

    async def kill(self) -> None:
        """At once, without a word to its clients."""
        if self.process is not None:
            self.process.kill()
            await self.process.wait()
            self.process = None

    def _announced(self) -> int:
        return self.output.read_text().count('"listening"') if self.output.exists() else 0


@asynccontextmanager
async def opened(
    browser: Browser, url: str, *, width: int = 1280, height: int = 800, faults_expected: bool = False, **context: Any
) -> AsyncIterator[Page]:
    """The page at `url`; at the end it must not have complained, be it of a fault or of its security policy."""
    context.setdefault("reduced_motion", "reduce")
    visit = await browser.new_context(viewport={"width": width, "height": height}, **context)
    page = await visit.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    await page.goto(url)
    yield page
    await visit.close()
    assert faults_expected or not complaints, complaints


async def search(page: Page, query: str, limit: str = "3") -> None:
    await page.get_by_label("Topic").fill(query)
    await page.get_by_label("Limit").fill(limit)
    await page.get_by_role("button", name="Search", exact=True).click()


async def searched(page: Page, query: str, limit: str = "3") -> str:
    """Starts a search from the page; returns its session."""
    before = shown(page)
    await search(page, query, limit)
    await wait_until(lambda: shown(page) not in ("", before), "the session is in the address")
    await expect(page.locator("#topic")).to_have_text(query)
    return shown(page)


def shown(page: Page) -> str:
    """The session in the address bar."""
    fragment = urllib.parse.urlsplit(page.url).fragment
    return urllib.parse.parse_qs(fragment).get("session", [""])[0]


def clip(media: str, number: int, **changes: object) -> Video:
    given: dict[str, object] = {
        "id": f"{number:032x}",
        "url": f"{media}/clip_360x640.mp4?{number}",
        "kind": Kind.MP4,
        "verified": True,
        "codec": "h264",
        "width": 360,
        "height": 640,
        "duration_ms": 75_400,
        "size_bytes": 2_345_678,
        "poster_url": f"{media}/poster_{number % 8}.jpg",
        "captions": {"de": f"{media}/de.vtt"},
        "pin": Pin(
            id=f"{number}",
            url=f"https://www.pinterest.com/pin/{number}/",
            title=f"Glaze, no. {number}",
            description="Two coats.",
            creator=Creator(
                username="studio.ono", full_name="Ono Pottery", url="https://www.pinterest.com/studio.ono/"
            ),
            board=Board(name="Tests", url="https://www.pinterest.com/studio.ono/tests/"),
        ),
    }
    return Video(**{**given, **changes})  # type: ignore[arg-type]


async def found(log: SessionLog, session: str, *videos: Video) -> None:
    """What dedup writes, in this order."""
    for video in videos:
        await _given(log, session, video)


async def found_many(log: SessionLog, session: str, videos: Iterable[Video]) -> None:
    """The same, in any order, as fast as the broker takes it."""
    room = asyncio.Semaphore(AT_ONCE)

    async def give(video: Video) -> None:
        async with room:
            await _given(log, session, video)

    await asyncio.gather(*(give(video) for video in videos))


async def _given(log: SessionLog, session: str, video: Video) -> None:
    record = VideoRecord(item=f"{video.id[-8:]}-0", video=video, captured_at=time.time())
    await log.create(session, subjects.VIDEO, record, video.id)


async def crawled(log: SessionLog, session: str, reason: Reason, items: int, message: str | None = None) -> None:
    """What the crawler writes at its end."""
    await log.create(session, subjects.CRAWLED, CrawledRecord(reason=reason, items=items, message=message))


def cards(page: Page) -> Locator:
    return page.locator("#grid .card")


def figure(page: Page, name: str) -> Locator:
    return page.locator(".counts div").filter(has=page.get_by_text(name, exact=True)).locator("dd")


def tab(page: Page, query: str) -> Locator:
    return page.get_by_role("navigation", name="Your searches").get_by_role("button", name=query).first
