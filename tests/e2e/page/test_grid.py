"""The grid under load: thousands of videos at once neither freeze the page nor fill it with cards."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from libs.common.messages import Reason
from libs.common.session_log import SessionLog
from tests.e2e.page.steps import Gateway, cards, clip, crawled, figure, found, found_many, opened, searched

pytestmark = pytest.mark.asyncio(loop_scope="package")

MANY = 5000
MOST_CARDS = 1000
A_FRAME = 24  # cards, as grid.js has it
# The number of the first card that can be seen, 0 where there is none.
TOP = """Number([...document.querySelectorAll(".card")].find((card) => {
    const { top, bottom } = card.getBoundingClientRect();
    return bottom > 0 && top < innerHeight;
})?.ariaPosInSet ?? 0)"""
PHONE: dict[str, Any] = {"has_touch": True, "is_mobile": True, "width": 390, "height": 844}

# Before anything of the page runs: how long the thread was held at most, how many cards came at once and how many
# there were.
WATCH = """() => {
    window.watched = { gap: 0, madeAtOnce: 0, most: 0 };
    let last = performance.now();
    const beat = () => {
        const now = performance.now();
        watched.gap = Math.max(watched.gap, now - last);
        last = now;
        setTimeout(beat, 0);
    };
    beat();
    document.addEventListener("DOMContentLoaded", () => {
        const grid = document.getElementById("grid");
        new MutationObserver((changes) => {
            let made = 0;
            for (const { addedNodes } of changes) made += addedNodes.length;
            watched.most = Math.max(watched.most, grid.childElementCount);
            watched.madeAtOnce = Math.max(watched.madeAtOnce, made);
        }).observe(grid, { childList: true });
    });
}"""
# What a page that gave each video its card would hold the thread for, on this machine, now.
ALL_AT_ONCE = """async (count) => {
    const { cardOf } = await import("/static/page/card.js");
    const actions = { play() {}, copy() {}, save() {}, details() {} };
    const host = document.createElement("div");
    document.body.append(host);
    const started = performance.now();
    for (let number = 0; number < count; number++) {
        const video = { id: `x${number}`, kind: "mp4", url: `https://h.example/${number}`, pin: { title: "t" } };
        host.append(cardOf(video, actions));
    }
    host.getBoundingClientRect();
    const took = performance.now() - started;
    host.remove();
    return took;
}"""


async def order_of(page: Page) -> list[int]:
    """The numbers of the cards in the order of their elements."""
    numbers: list[int] = await cards(page).evaluate_all("all => all.map((card) => Number(card.ariaPosInSet))")
    return numbers


async def test_five_thousand_videos_at_once_freeze_nothing_and_can_all_be_reached(
    browser: Browser, gateway: Gateway, log: SessionLog, media: str
) -> None:
    async with opened(browser, gateway.url, **PHONE) as page:
        session = await searched(page, "plenty", str(MANY))
        address = page.url
        await page.goto("about:blank")
        await found_many(log, session, (clip(media, number) for number in range(1, MANY + 1)))
        await crawled(log, session, Reason.LIMIT, MANY)
        await page.add_init_script(f"({WATCH})()")
        await page.goto(address)
        await expect(figure(page, "Found")).to_have_text("5,000 / 5,000")
        await expect(page.get_by_role("feed")).to_have_attribute("aria-busy", "false")
        watched = await page.evaluate("() => watched")
        held = await page.evaluate(ALL_AT_ONCE, MANY // 5) * 5
        assert watched["madeAtOnce"] <= A_FRAME + 1
        assert watched["gap"] < held, "the page stood still for as long as it takes to make all cards at once"

        assert await order_of(page) == list(range(1, await cards(page).count() + 1))
        await cards(page).nth(3).get_by_role("button", name="Copy link").focus()
        await page.keyboard.press("End")
        await expect(page.locator(":focus")).to_have_accessible_name(await last_name(page))
        numbers = await order_of(page)
        assert numbers == sorted(numbers)
        assert numbers[-1] == MANY
        assert set(await cards(page).evaluate_all("all => all.map((card) => card.ariaSetSize)")) == {str(MANY)}
        await page.keyboard.press("Home")
        await expect(page.locator(":focus").locator("xpath=ancestor::article")).to_have_attribute("aria-posinset", "1")
        for part in (0.3, 0.7):
            await page.evaluate("(part) => scrollTo(0, document.body.scrollHeight * part)", part)
            await page.wait_for_function(f"() => Math.abs({TOP} / {MANY} - {part}) < 0.02")
            assert (await order_of(page))[0] == 1  # the card that has the focus stays
        watched = await page.evaluate("() => watched")
        assert MOST_CARDS > watched["most"] > 0
        assert watched["madeAtOnce"] <= A_FRAME + 1


async def last_name(page: Page) -> str:
    title = await page.locator(f"[aria-posinset='{MANY}'] .title").text_content()
    return f"Copy link of {title}"


async def test_the_keys_go_from_card_to_card(page: Page, log: SessionLog, media: str) -> None:
    session = await searched(page, "by keys", "30")
    await found(log, session, *(clip(media, number) for number in range(1, 31)))
    await expect(cards(page)).to_have_count(30)
    columns = await cards(page).evaluate_all(
        "all => all.filter((card) => card.getBoundingClientRect().top === all[0].getBoundingClientRect().top).length"
    )
    assert columns == 5
    focused = page.locator(":focus")
    await cards(page).first.get_by_role("button", name="Details").focus()
    for key, number in [("ArrowRight", 2), ("ArrowDown", 7), ("ArrowUp", 2), ("PageDown", 3), ("End", 30), ("Home", 1)]:
        await page.keyboard.press(key)
        await expect(focused).to_have_accessible_name(f"Details of Glaze, no. {number}")
        await expect(focused).to_be_in_viewport()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog", name="Glaze, no. 1")).to_be_visible()


async def test_another_width_keeps_the_place(page: Page, log: SessionLog, media: str) -> None:
    session = await searched(page, "turned", "300")
    await found_many(log, session, (clip(media, number) for number in range(1, 301)))
    await expect(figure(page, "Found")).to_have_text("300 / 300")
    await page.evaluate("() => scrollTo(0, document.body.scrollHeight / 2)")
    await page.wait_for_function(f"() => {TOP} > 100")
    before = await page.evaluate(f"() => {TOP}")
    await page.set_viewport_size({"width": 390, "height": 844})
    await page.wait_for_function("() => document.querySelector('.card').getBoundingClientRect().width < 200")
    await page.wait_for_function(f"() => Math.abs({TOP} - {before}) <= 5")
