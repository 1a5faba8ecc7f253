"""Searching with the page: what is shown, refused, resumed, cancelled."""

from __future__ import annotations

import json
import re
import time

import pytest
from playwright.async_api import Browser, Page, expect

from libs.common import subjects
from libs.common.messages import (
    Board,
    Creator,
    Pin,
    ProgressRecord,
    Reason,
    RepeatRecord,
    RequestRecord,
    UnavailableRecord,
)
from libs.common.session_log import SessionLog
from tests.e2e.page.steps import Gateway, cards, clip, crawled, figure, found, opened, searched

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_videos_appear_as_they_are_found(page: Page, log: SessionLog, media: str) -> None:
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
    await card.get_by_role("button", name="Details of Glaze, no. 1").click()
    details = page.get_by_role("dialog", name="Glaze, no. 1")
    await expect(details.get_by_role("link", name="View pin")).to_have_attribute(
        "href", "https://www.pinterest.com/pin/1/"
    )
    await expect(details.get_by_role("link", name="Tests")).to_be_visible()
    await expect(details.get_by_role("link", name="de", exact=True)).to_have_attribute("href", f"{media}/de.vtt")
    await page.keyboard.press("Escape")
    await expect(details).to_be_hidden()
    await expect(card.get_by_role("button", name="Details of Glaze, no. 1")).to_be_focused()

    await log.create(session, subjects.REPEAT, RepeatRecord(item="r-0", signature=f"{1:032x}"), "r-0")
    await log.create(session, subjects.UNAVAILABLE, UnavailableRecord(item="u-0", reason="no_media"), "u-0")
    await expect(figure(page, "Repeats")).to_have_text("1")
    await expect(figure(page, "Unavailable")).to_have_text("1")
    await found(log, session, clip(media, 2), clip(media, 3))
    await crawled(log, session, Reason.LIMIT, 5)
    await expect(page.locator("#state")).to_contain_text("the limit is reached")
    await expect(figure(page, "Found")).to_have_text("3 / 3")
    await expect(cards(page)).to_have_count(3)
    await expect(page.get_by_role("button", name="Search", exact=True)).to_be_visible()


async def test_what_is_being_waited_for_is_named(page: Page, log: SessionLog) -> None:
    await searched(page, "first in the queue")
    session = await searched(page, "patience")
    await expect(page.locator("#state")).to_have_text(re.compile(r"Waiting for a crawler, after \d+ other search(es)?"))
    waiting = ProgressRecord(state="waiting", waiting_for="the site's rate limit", waiting_until=time.time() + 60)
    await log.put(session, subjects.PROGRESS, waiting)
    await expect(page.locator("#state")).to_contain_text("Waiting for the site's rate limit until ")
    await log.put(session, subjects.PROGRESS, ProgressRecord(state="crawling", filtered=7))
    await expect(figure(page, "Filtered")).to_have_text("7")


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


async def test_cancel_ends_the_session_and_keeps_what_was_found(page: Page, log: SessionLog, media: str) -> None:
    session = await searched(page, "enough")
    await found(log, session, clip(media, 1))
    await expect(cards(page)).to_have_count(1)
    await page.get_by_role("button", name="Cancel", exact=True).press("Enter")
    await expect(page.locator("#state")).to_have_text("Cancelled")
    await expect(cards(page)).to_have_count(1)
    await expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_hidden()
    await expect(page.get_by_role("button", name="Search", exact=True)).to_be_focused()
    assert (await log.state(session)).cancelled


async def test_a_failed_crawl_says_what_happened(page: Page, log: SessionLog) -> None:
    session = await searched(page, "blocked")
    await crawled(log, session, Reason.BLOCKED, 0, "the site refused us; try again later")
    await expect(page.locator("#notice")).to_contain_text("The site refused us; try again later.")
    await expect(page.locator("#state")).to_have_text("Ended: blocked")
    await expect(cards(page)).to_have_count(0)
    await expect(page.locator("#ghosts")).to_be_hidden()


async def test_a_session_that_is_not_known_is_forgotten(browser: Browser, gateway: Gateway) -> None:
    async with opened(browser, f"{gateway.url}#session=0123456789abcdef") as page:
        await expect(page.locator("#notice")).to_contain_text("no longer kept")
        await expect(page.get_by_role("button", name="Search", exact=True)).to_be_visible()
        assert page.url == gateway.url


async def test_a_phone_of_360_pixels_needs_no_sideways_scrolling(
    browser: Browser, gateway: Gateway, log: SessionLog, media: str
) -> None:
    async with opened(browser, gateway.url, width=360) as page:
        session = await searched(page, "a-topic-without-a-space-" * 8)
        await found(log, session, clip(media, 1, pin=Pin(title="w" * 200)), clip(media, 2))
        await expect(cards(page)).to_have_count(2)
        await cards(page).nth(0).get_by_role("button", name="Details").click()
        wide = """() => [...document.querySelectorAll("body *")]
            .filter((part) => part.getBoundingClientRect().right > innerWidth)
            .map((part) => part.outerHTML)"""
        assert await page.evaluate(wide) == []


async def test_words_that_are_read_from_the_right_keep_their_order(page: Page, log: SessionLog, media: str) -> None:
    text = "\u0641\u062e\u0627\u0631 (raku), 2024!"
    pin = Pin(title=text, description=text, creator=Creator(full_name=text), board=Board(name=text))
    await found(log, await searched(page, text), clip(media, 1, pin=pin))
    await cards(page).first.get_by_role("button", name="Details").click()
    directions = """(text) => [...document.querySelectorAll("body *")]
        .filter((part) => (part.value ?? part.textContent) === text && part.checkVisibility())
        .map((part) => [part, getComputedStyle(part).direction])
        .map(([part, direction]) => [part.className || part.id || part.previousSibling.textContent, direction])
    """
    assert dict(await page.evaluate(directions, text)) == dict.fromkeys(
        ["query", "tab-name", "topic", "title", "creator", "details-title", "description", "Creator", "Board"],
        "rtl",
    )
