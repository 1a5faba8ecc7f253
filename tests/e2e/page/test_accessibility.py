"""axe-core finds no violation in any state of the pages, light and dark, wide and as narrow as a phone."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from itertools import cycle
from typing import Literal

import pytest
from playwright.async_api import Browser, Page, ViewportSize, expect

from libs.common import subjects
from libs.common.messages import Kind, Pin, ProgressRecord, Reason
from libs.common.session_log import SessionLog
from tests.e2e.page.steps import Gateway, cards, clip, crawled, found, opened, searched

pytestmark = pytest.mark.asyncio(loop_scope="package")

AXE = (files("axe_playwright_python") / "axe.min.js").read_text()
RUN = """async () => {
    await new Promise((laidOut) => requestAnimationFrame(() => requestAnimationFrame(laidOut)));
    const { violations } = await axe.run(document, { resultTypes: ["violations"] });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
}"""
# between the picture of a card without a poster and what is behind it
CONTRAST = """(picture) => {
    const parts = (color) => color.match(/[\\d.]+/g).map(Number);
    const luminance = (color) => color.map((part) => part / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
        .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
    const over = ([r, g, b, opacity = 1], below) =>
        [r, g, b].map((part, at) => part * opacity + below[at] * (1 - opacity));
    const frame = parts(getComputedStyle(picture.closest(".frame")).backgroundColor).slice(0, 3);
    const { color, backgroundColor } = getComputedStyle(picture);
    const ground = over(parts(backgroundColor), frame);
    const [dark, light] = [luminance(ground), luminance(over(parts(color), ground))].sort((one, other) => one - other);
    return (light + 0.05) / (dark + 0.05);
}"""
Look = tuple[ViewportSize, Literal["light", "dark"]]

WIDE: ViewportSize = {"width": 1280, "height": 800}
NARROW: ViewportSize = {"width": 360, "height": 740}
# each state is looked at in both schemes and both widths; which goes with which changes from one to the next
LOOKS: tuple[tuple[Look, ...], ...] = (
    ((WIDE, "light"), (NARROW, "dark")),
    ((NARROW, "light"), (WIDE, "dark")),
)


async def without_violation(page: Page, looks: Iterator[tuple[Look, ...]]) -> None:
    """In two looks."""
    for size, scheme in next(looks):
        await page.set_viewport_size(size)
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        assert await page.evaluate(RUN) == [], (size, scheme)


async def test_axe_finds_no_violation(browser: Browser, gateway: Gateway, log: SessionLog, media: str) -> None:
    looks = cycle(LOOKS)
    async with opened(browser, gateway.url, faults_expected=True) as page:
        await page.evaluate(AXE)
        await without_violation(page, looks)

        await page.locator("#filters summary").click()
        await page.get_by_label("Only what is new").check()
        await page.get_by_role("button", name="Search", exact=True).click()
        await expect(page.locator("#scope-error")).not_to_be_empty()
        await without_violation(page, looks)
        await page.get_by_role("button", name="Reset").click()
        await page.locator("#filters summary").click()

        session = await searched(page, "seen by all")
        await log.put(session, subjects.PROGRESS, ProgressRecord(state="crawling", pages=2))
        await expect(page.locator("#state")).to_contain_text("Crawling")
        await without_violation(page, looks)
        videos = [
            clip(media, 1),
            clip(media, 2, kind=Kind.EMBED, url="https://www.youtube.com/embed/x", verified=False),
            clip(media, 3, kind=Kind.HLS, url=f"{media}/gone.m3u8", captions={}, poster_url=None),
        ]
        await found(log, session, *videos)
        await cards(page).nth(2).get_by_role("button", name="Play").click()
        await expect(cards(page).nth(2).locator(".remark")).to_be_visible()
        await cards(page).first.get_by_role("button", name="Play").click()
        await expect(cards(page).first.locator("video")).to_be_visible()
        await without_violation(page, looks)
        await cards(page).nth(1).get_by_role("button", name="Details").click()
        await without_violation(page, looks)
        await page.keyboard.press("Escape")
        await crawled(log, session, Reason.LIMIT, 3)
        await expect(page.locator("#status")).to_have_attribute("data-phase", "done")
        failed = await searched(page, "seen by none")
        await crawled(log, failed, Reason.BLOCKED, 0)
        await expect(page.locator("#notice")).to_be_visible()
        await without_violation(page, looks)

        await page.evaluate("() => { document.getElementById('key').hidden = false; }")
        await without_violation(page, looks)


@pytest.mark.parametrize(("path", "drawn"), [("docs", "#schemas"), ("status", "#whole")])
async def test_axe_finds_no_violation_in_the_other_pages(
    browser: Browser, gateway: Gateway, path: str, drawn: str
) -> None:
    looks = cycle(LOOKS)
    async with opened(browser, f"{gateway.url}{path}", faults_expected=True) as page:
        await expect(page.locator(drawn)).to_be_visible()
        await page.evaluate(AXE)
        await without_violation(page, looks)
        await without_violation(page, looks)


async def test_tables_of_the_interfaces_are_stops_of_the_keyboard_where_they_scroll_alone(
    browser: Browser, gateway: Gateway
) -> None:
    async with opened(browser, f"{gateway.url}docs") as page:
        stops = page.locator("[role=region][tabindex='0']")
        await expect(page.locator("#schemas")).to_be_visible()
        await expect(stops).to_have_count(0)
        await page.set_viewport_size(NARROW)
        answers = page.get_by_role("region", name="Answers of POST /v1/sessions", exact=True)
        await expect(answers).to_have_attribute("tabindex", "0")
        await answers.focus()
        await page.keyboard.press("ArrowRight")
        await expect(answers).not_to_have_js_property("scrollLeft", 0)
        await page.set_viewport_size(WIDE)
        await expect(stops).to_have_count(0)


async def test_links_to_creators_are_large_enough_for_a_finger(
    browser: Browser, gateway: Gateway, log: SessionLog, media: str
) -> None:
    async with opened(browser, gateway.url, width=360) as page:
        await found(log, await searched(page, "by hand"), clip(media, 1))
        await cards(page).first.get_by_role("button", name="Details").click()
        links = page.locator(".creator a, .metadata a")
        await expect(links).to_have_count(6)
        for link in await links.all():
            box = await link.bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) >= 24, await link.text_content()


async def test_a_card_without_a_poster_has_a_picture_that_is_seen_on_any_color(
    page: Page, log: SessionLog, media: str
) -> None:
    session = await searched(page, "bare")
    colors = (None, "#ffffff", "#808080", "#000000")
    pins = [Pin(title="Bare", dominant_color=color) for color in colors]
    await found(log, session, *(clip(media, at, poster_url=None, pin=pin) for at, pin in enumerate(pins, 1)))
    await expect(page.locator(".missing:visible")).to_have_count(len(colors))
    for _, scheme in LOOKS[0]:
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for picture in await page.locator(".missing:visible").all():
            assert await picture.evaluate(CONTRAST) >= 3
