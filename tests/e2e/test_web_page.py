"""The page at `/` in a real Chromium, against a real gateway and broker; the test itself plays crawler and dedup."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import time
import urllib.parse
from asyncio import create_subprocess_exec
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, async_playwright, expect
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from libs.common import subjects
from libs.common.bus import connect
from libs.common.health import http_server, listen
from libs.common.messages import (
    Board,
    CrawledRecord,
    Creator,
    Kind,
    Pin,
    ProgressRecord,
    Reason,
    RepeatRecord,
    RequestRecord,
    UnavailableRecord,
    Video,
    VideoRecord,
)
from libs.common.session_log import SessionLog, session_log
from libs.common.settings import Settings
from tests.wait import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser and one gateway for all

ROOT = Path(__file__).parents[2]
MEDIA = ROOT / "tests" / "fake_pinterest" / "media"
CHROMIUM = shutil.which("chromium")  # None: the one that Playwright installed

expect.set_options(timeout=20_000)  # ms; the machine may be running other tests beside these


class Gateway:
    """A gateway in a process of its own, at an address that outlives it."""

    def __init__(self, nats_url: str, port: int, output: Path) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self.environment = {**os.environ, "NATS_URL": nats_url, "GATEWAY_PORT": str(port)}
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


shared = pytest_asyncio.fixture(scope="module", loop_scope="module")


@shared
async def log(nats_url: str) -> AsyncIterator[SessionLog]:
    async with connect(Settings(nats_url=nats_url), "test") as bus, session_log(bus) as log:
        yield log


@shared
async def gateway(nats_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    with listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
    gateway = Gateway(nats_url, port, tmp_path_factory.mktemp("gateway") / "log")
    await gateway.start()
    yield gateway
    await gateway.kill()


@shared
async def media() -> AsyncIterator[str]:
    """The origin of a host with real videos, which lets other origins read them, as a CDN does."""
    sock = listen("127.0.0.1", 0)
    app = Starlette(
        routes=[Mount("/", StaticFiles(directory=MEDIA))], middleware=[Middleware(CORSMiddleware, allow_origins=["*"])]
    )
    async with http_server(app, sock):
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


@shared
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@asynccontextmanager
async def opened(
    browser: Browser, url: str, *, width: int = 1280, faults_expected: bool = False
) -> AsyncIterator[Page]:
    """The page at `url`; at the end it must not have complained, be it of a fault or of its security policy."""
    context = await browser.new_context(viewport={"width": width, "height": 800}, reduced_motion="reduce")
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    await page.goto(url)
    yield page
    await context.close()
    assert faults_expected or not complaints, complaints


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, gateway: Gateway) -> AsyncIterator[Page]:
    async with opened(browser, gateway.url) as page:
        yield page


async def search(page: Page, query: str, limit: str = "3") -> None:
    await page.get_by_label("Topic").fill(query)
    await page.get_by_label("Limit").fill(limit)
    await page.get_by_role("button", name="Search").click()


async def searched(page: Page, query: str, limit: str = "3") -> str:
    """Starts a search from the page; returns its session."""
    await search(page, query, limit)
    await expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    await wait_until(lambda: "session=" in page.url, "the session is in the address")
    return urllib.parse.parse_qs(urllib.parse.urlsplit(page.url).fragment)["session"][0]


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
    """What dedup writes."""
    for video in videos:
        record = VideoRecord(item=f"{video.id[-8:]}-0", video=video, captured_at=time.time())
        await log.create(session, subjects.VIDEO, record, video.id)


async def crawled(log: SessionLog, session: str, reason: Reason, items: int, message: str | None = None) -> None:
    """What the crawler writes at its end."""
    await log.create(session, subjects.CRAWLED, CrawledRecord(reason=reason, items=items, message=message))


def cards(page: Page) -> Locator:
    return page.locator("#grid .card")


def figure(page: Page, name: str) -> Locator:
    return page.locator(".counts div").filter(has=page.get_by_text(name, exact=True)).locator("dd")


async def test_videos_appear_as_they_are_found_and_play_in_place(page: Page, log: SessionLog, media: str) -> None:
    session = await searched(page, "ceramic glaze")
    await log.put(session, subjects.PROGRESS, ProgressRecord(state="crawling", pages=2))
    await expect(page.locator("#state")).to_have_text("Crawling, 2 pages read")
    await expect(cards(page)).to_have_count(0)

    await found(log, session, clip(media, 1))
    await expect(cards(page)).to_have_count(1)
    await expect(page.get_by_role("progressbar", name="Videos found")).to_have_js_property("value", 1)
    await expect(figure(page, "First video")).to_contain_text(" s")
    card = cards(page).first
    await expect(card.get_by_role("heading")).to_have_text("Glaze, no. 1")
    await expect(card.locator(".creator")).to_have_text("Ono Pottery")
    await expect(card.locator(".facts")).to_have_text("360 \N{MULTIPLICATION SIGN} 640 · 2.3 MB")
    await expect(card.locator(".length")).to_have_text("1:15")
    await expect(card.locator(".badge")).to_have_text("MP4, verified")
    await card.get_by_text("Details").click()
    await expect(card.get_by_role("link", name="View pin")).to_have_attribute(
        "href", "https://www.pinterest.com/pin/1/"
    )
    await expect(card.get_by_role("link", name="Tests")).to_be_visible()
    await expect(card.get_by_role("link", name="de", exact=True)).to_have_attribute("href", f"{media}/de.vtt")

    await card.get_by_role("button", name="Play Glaze, no. 1").click()
    await expect(card.locator("video")).to_have_js_property("paused", False)
    await expect(card.locator("video")).to_have_js_property("videoWidth", 360)

    await log.create(session, subjects.REPEAT, RepeatRecord(item="r-0", signature=f"{1:032x}"), "r-0")
    await log.create(session, subjects.UNAVAILABLE, UnavailableRecord(item="u-0", reason="no_media"), "u-0")
    await expect(figure(page, "Repeats")).to_have_text("1")
    await expect(figure(page, "Unavailable")).to_have_text("1")
    await found(log, session, clip(media, 2), clip(media, 3))
    await crawled(log, session, Reason.LIMIT, 5)
    await expect(page.locator("#state")).to_contain_text("the limit is reached")
    await expect(figure(page, "Found")).to_have_text("3 / 3")
    await expect(cards(page)).to_have_count(3)
    await expect(page.get_by_role("button", name="Search")).to_be_visible()


async def test_what_is_being_waited_for_is_named(page: Page, log: SessionLog) -> None:
    session = await searched(page, "patience")
    waiting = ProgressRecord(state="waiting", waiting_for="the site's rate limit", waiting_until=time.time() + 60)
    await log.put(session, subjects.PROGRESS, waiting)
    await expect(page.locator("#state")).to_contain_text("Waiting for the site's rate limit until ")


async def test_a_reload_shows_everything_again_and_goes_on(page: Page, log: SessionLog, media: str) -> None:
    session = await searched(page, "reload & more")
    await found(log, session, clip(media, 1), clip(media, 2))
    await expect(cards(page)).to_have_count(2)
    await page.reload()
    await expect(cards(page)).to_have_count(2)
    await expect(page.get_by_label("Topic")).to_have_value("reload & more")
    await found(log, session, clip(media, 3))
    await expect(cards(page)).to_have_count(3)
    await crawled(log, session, Reason.LIMIT, 3)
    await expect(page.locator("#status")).to_have_attribute("data-phase", "done")
    await page.reload()
    await expect(page.locator("#status")).to_have_attribute("data-phase", "done")
    await expect(cards(page)).to_have_count(3)


async def test_a_lost_connection_comes_back_and_resumes_after_the_last_sequence(
    browser: Browser, gateway: Gateway, log: SessionLog, media: str
) -> None:
    async with opened(browser, gateway.url, faults_expected=True) as page:
        sent: list[dict[str, object]] = []
        page.on("websocket", lambda socket: socket.on("framesent", lambda text: sent.append(json.loads(text))))
        session = await searched(page, "outage")
        await found(log, session, clip(media, 1))
        await expect(cards(page)).to_have_count(1)
        record = await log.get(session, subjects.VIDEO, clip(media, 1).id)
        assert record is not None
        await gateway.kill()
        await expect(page.locator("#state")).to_contain_text("Connection lost, trying again")
        await found(log, session, clip(media, 2))
        await gateway.start()
        await expect(cards(page)).to_have_count(2)
        await found(log, session, clip(media, 3))
        await crawled(log, session, Reason.LIMIT, 3)
        await expect(page.locator("#status")).to_have_attribute("data-phase", "done")
        await expect(cards(page)).to_have_count(3)
        resumed = [frame["parameters"] for frame in sent if frame["operation"] == "resume_extraction"]
        assert resumed == [{"session_id": session, "after": record.sequence}]


@pytest.mark.parametrize(
    ("query", "limit", "field", "sentence"),
    [
        ("glaze", "0", "Limit", "The limit must be from 1 to 10000, not 0."),
        ("glaze", "", "Limit", "The limit must be a whole number."),
        ("  ", "3", "Topic", "The topic must not be empty."),
        ("x" * 501, "3", "Topic", "The topic has 501 characters; 500 are the most."),
        ("pin.it/", "0", "Limit", "The limit must be from 1 to 10000, not 0."),
        (
            "https://pin.it/",
            "3",
            "Topic",
            "The address cannot be read: a short link has the form https://pin.it/<code>.",
        ),
    ],
)
async def test_a_refusal_is_shown_by_its_field(page: Page, query: str, limit: str, field: str, sentence: str) -> None:
    await search(page, query, limit)
    box = page.get_by_label(field)
    await expect(box).to_have_attribute("aria-invalid", "true")
    await expect(box).to_have_accessible_description(sentence)
    await expect(box).to_be_focused()
    await expect(page.get_by_role("button", name="Search")).to_be_visible()
    await expect(page.locator("#status")).to_be_hidden()
    await box.press_sequentially("1")
    await expect(box).not_to_have_attribute("aria-invalid", "true")


@pytest.mark.parametrize(
    ("address", "said"), [("https://pin.it/abc", "This pin has no video."), ("pinterest.de/mia/pots/", None)]
)
async def test_an_address_is_read_and_what_is_said_of_it_shown(
    page: Page, log: SessionLog, address: str, said: str | None
) -> None:
    session = await searched(page, address)
    record = await log.get(session, subjects.REQUEST)
    assert record is not None
    assert isinstance(record.message, RequestRecord)
    assert (record.message.request.url, record.message.request.query) == (address, "")
    await crawled(log, session, Reason.EXHAUSTED, 0, said)
    await expect(page.locator("#empty")).to_have_text(said or "There are no videos at this address.")


async def test_a_refused_search_leaves_the_videos_of_the_one_before(page: Page, log: SessionLog, media: str) -> None:
    session = await searched(page, "first")
    await found(log, session, clip(media, 1))
    await crawled(log, session, Reason.EXHAUSTED, 1)
    await expect(page.locator("#state")).to_contain_text("the site has no more")
    await search(page, "second", "0")
    await expect(page.locator("#limit-error")).not_to_be_empty()
    await expect(cards(page)).to_have_count(1)
    assert session in page.url


async def test_cancel_ends_the_session_and_keeps_what_was_found(page: Page, log: SessionLog, media: str) -> None:
    session = await searched(page, "enough")
    await found(log, session, clip(media, 1))
    await expect(cards(page)).to_have_count(1)
    await page.get_by_role("button", name="Cancel").press("Enter")
    await expect(page.locator("#state")).to_have_text("Cancelled")
    await expect(cards(page)).to_have_count(1)
    await expect(page.get_by_role("button", name="Search")).to_be_focused()
    assert (await log.state(session)).cancelled


async def test_a_failed_crawl_says_what_happened(page: Page, log: SessionLog) -> None:
    session = await searched(page, "blocked")
    await crawled(log, session, Reason.BLOCKED, 0, "the site refused us; try again later")
    await expect(page.locator("#notice")).to_contain_text("The site refused us; try again later.")
    await expect(page.locator("#state")).to_have_text("Ended: blocked")
    await expect(page.locator("#grid li")).to_have_count(0)


async def test_a_session_that_is_not_known_is_forgotten(browser: Browser, gateway: Gateway) -> None:
    async with opened(browser, f"{gateway.url}#session=0123456789abcdef") as page:
        await expect(page.locator("#notice")).to_contain_text("no longer kept")
        await expect(page.get_by_role("button", name="Search")).to_be_visible()
        assert page.url == gateway.url


async def test_nothing_in_a_frame_can_become_markup_or_script(page: Page, log: SessionLog, media: str) -> None:
    evil = "<img src=x onerror=alert(1)>"
    bad = "javascript:alert(1)"
    pin = Pin(id="1", url=bad, title=evil, description=evil, link=bad, creator=Creator(full_name=evil, url=bad))
    hostile = clip(media, 1, url=bad, poster_url=bad, captions={"<b>": bad}, pin=pin)
    session = await searched(page, evil)
    await found(log, session, hostile)
    await expect(cards(page).get_by_role("heading")).to_have_text(evil)
    await expect(page.locator("#topic")).to_have_text(evil)
    await expect(page.locator("[href^=javascript], [src^=javascript], img[src=x]")).to_have_count(0)
    await expect(cards(page).get_by_role("button", name="Play")).to_be_disabled()


async def test_the_links_are_saved_as_a_list_and_a_video_as_a_file(page: Page, log: SessionLog, media: str) -> None:
    session = await searched(page, "to take along", "2")
    videos = [clip(media, 1), clip(media, 2, pin=Pin(title='=HYPERLINK("x"), "quoted"'))]
    await found(log, session, *videos)
    await crawled(log, session, Reason.LIMIT, 2)
    await expect(page.locator("#status")).to_have_attribute("data-phase", "done")

    async def saved(button: Locator, name: str) -> bytes:
        async with page.expect_download() as waiting:
            await button.click()
        download = await waiting.value
        assert download.suggested_filename == name
        path = await download.path()
        return path.read_bytes()

    text = await saved(page.get_by_role("button", name=".txt"), "pinstream-to-take-along.txt")
    assert text.decode().splitlines() == [video.url for video in videos]
    lines = await saved(page.get_by_role("button", name=".jsonl"), "pinstream-to-take-along.jsonl")
    assert [json.loads(line)["id"] for line in lines.splitlines()] == [video.id for video in videos]
    table = (await saved(page.get_by_role("button", name=".csv"), "pinstream-to-take-along.csv")).decode()
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["url"] for row in rows] == [video.url for video in videos]
    assert rows[1]["title"] == """'=HYPERLINK("x"), "quoted\""""  # a spreadsheet must not run it
    file = await saved(page.get_by_role("link", name="Download Glaze, no. 1"), "glaze-no-1-00000000.mp4")
    assert file == (MEDIA / "clip_360x640.mp4").read_bytes()


async def test_links_are_copied(page: Page, gateway: Gateway, log: SessionLog, media: str) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=gateway.url)
    session = await searched(page, "copy")
    await found(log, session, clip(media, 1), clip(media, 2))
    await page.get_by_role("button", name="Copy link of Glaze, no. 2").click()
    await expect(cards(page).nth(1).locator(".copy")).to_contain_text("Copied")
    assert await page.evaluate("() => navigator.clipboard.readText()") == clip(media, 2).url
    await page.get_by_role("button", name="Copy all links").click()
    await expect(page.locator("#copy-all")).to_have_text("Copied")
    assert (await page.evaluate("() => navigator.clipboard.readText()")).split() == [
        clip(media, number).url for number in (1, 2)
    ]


async def test_what_is_not_a_file_is_labelled_and_linked(page: Page, log: SessionLog, media: str) -> None:
    await page.evaluate("() => { HTMLMediaElement.prototype.canPlayType = () => ''; }")
    session = await searched(page, "streams")
    stream = clip(media, 1, kind=Kind.HLS, url=f"{media}/video_360x640.m3u8")
    embed = clip(media, 2, kind=Kind.EMBED, url="https://www.youtube.com/embed/x", verified=False)
    await found(log, session, stream, embed)
    await expect(cards(page).nth(0).locator(".badge")).to_have_text("HLS, verified")
    await cards(page).nth(0).get_by_role("button", name="Play").click()
    await expect(cards(page).nth(0).locator(".remark")).to_contain_text("does not play HLS streams")
    await expect(cards(page).nth(0).get_by_role("link", name="open the link")).to_have_attribute("href", stream.url)
    await expect(cards(page).nth(1).locator(".badge")).to_have_text("Embed, not verified")
    link = cards(page).nth(1).get_by_role("link", name="on its own site")
    await expect(link).to_have_attribute("href", embed.url)
    await expect(page.get_by_role("link", name="Download")).to_have_count(0)


async def test_a_phone_of_360_pixels_needs_no_sideways_scrolling(
    browser: Browser, gateway: Gateway, log: SessionLog, media: str
) -> None:
    async with opened(browser, gateway.url, width=360) as page:
        session = await searched(page, "a-topic-without-a-space-" * 8)
        await found(log, session, clip(media, 1, pin=Pin(title="w" * 200)), clip(media, 2))
        await expect(cards(page)).to_have_count(2)
        await cards(page).nth(1).get_by_text("Details").click()
        wide = """() => [...document.querySelectorAll("body *")]
            .filter((part) => part.getBoundingClientRect().right > innerWidth)
            .map((part) => part.outerHTML)"""
        assert await page.evaluate(wide) == []
