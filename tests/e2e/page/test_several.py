"""Several searches at once: over one connection, each with its own videos, through reloads and closing."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page, expect

from libs.common.messages import Reason
from libs.common.session_log import SessionLog
from tests.e2e.page.steps import Gateway, cards, clip, crawled, found, opened, searched, shown, tab
from tests.wait import wait_for, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_several_searches_run_at_once_and_survive_a_reload(
    browser: Browser, gateway: Gateway, log: SessionLog, media: str
) -> None:
    async with opened(browser, gateway.url) as page:
        sockets: list[str] = []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        one = await searched(page, "celadon", "9")
        two = await searched(page, "tenmoku", "9")
        await found(log, one, clip(media, 1), clip(media, 2))
        await found(log, two, clip(media, 3))
        await expect(tab(page, "celadon")).to_have_text("celadon 2/9")  # though it is not the one that is shown
        await expect(tab(page, "tenmoku")).to_have_attribute("aria-current", "true")
        await expect(cards(page).get_by_role("heading")).to_have_text(["Glaze, no. 3"])
        await tab(page, "celadon").click()
        await expect(cards(page).get_by_role("heading")).to_have_text(["Glaze, no. 1", "Glaze, no. 2"])
        assert shown(page) == one
        assert len(sockets) == 1

        await crawled(log, two, Reason.EXHAUSTED, 1)
        await expect(tab(page, "tenmoku").locator("xpath=..")).to_have_attribute("data-phase", "done")
        await page.reload()
        await expect(cards(page)).to_have_count(2)
        await expect(tab(page, "tenmoku")).to_have_text("tenmoku 1/9")
        await found(log, one, clip(media, 4))
        await expect(cards(page)).to_have_count(3)
        await tab(page, "tenmoku").click()
        await expect(cards(page).get_by_role("heading")).to_have_text(["Glaze, no. 3"])
        await page.go_back()
        await expect(cards(page)).to_have_count(3)
        assert shown(page) == one


async def test_closing_a_search_cancels_it_for_good(page: Page, log: SessionLog, media: str) -> None:
    one = await searched(page, "kept")
    two = await searched(page, "closed")
    await page.get_by_role("button", name="Close closed").press("Enter")
    await expect(page.locator("#topic")).to_have_text("kept")
    await expect(tab(page, "kept")).to_be_focused()

    async def cancelled() -> bool:
        return (await log.state(two)).cancelled

    await wait_for(cancelled, "the closed search is cancelled")
    assert not (await log.state(one)).cancelled
    await page.reload()
    await expect(page.locator(".tab")).to_have_text(["kept 0/3"])
    await tab(page, "kept").press("Delete")
    await expect(page.locator("#welcome")).to_be_visible()
    await expect(page.get_by_label("Topic")).to_be_focused()
    await wait_until(lambda: "session" not in page.url, "the address names no session")


async def test_the_keyboard_alone_gets_through_the_searches_and_past_them(
    page: Page, log: SessionLog, media: str
) -> None:
    one = await by_keyboard(page, "raku")
    await found(log, one, clip(media, 1))
    two = await by_keyboard(page, "shino")
    await found(log, two, clip(media, 2))
    await expect(cards(page).get_by_role("heading")).to_have_text(["Glaze, no. 2"])
    assert await reached(page, "Tab", 13) == [
        "Search", "Filters", "shino 1/3", "Close shino", "raku 1/3", "Close raku", "Cancel",
        "Copy all links", "Save all videos as JSON", "Save all videos as CSV", "Save all videos as M3U, a playlist",
        "Save all links as a text of URLs", "Play Glaze, no. 2, 1:15",
    ]  # fmt: skip
    assert (await reached(page, "Shift+Tab", 8))[-1] == "raku 1/3"
    await page.keyboard.press("Enter")
    await expect(cards(page).get_by_role("heading")).to_have_text(["Glaze, no. 1"])
    assert shown(page) == one
    assert (await reached(page, "Shift+Tab", 2))[-1] == "shino 1/3"
    await page.keyboard.press("Space")
    await expect(cards(page).get_by_role("heading")).to_have_text(["Glaze, no. 2"])
    assert shown(page) == two


async def by_keyboard(page: Page, query: str) -> str:
    """Begins a search as `searched` does, with the focus left in the field of the limit."""
    before = shown(page)
    await page.get_by_label("Topic").focus()
    await page.keyboard.press("Control+A")
    await page.keyboard.type(query)
    await page.keyboard.press("Tab")
    await page.keyboard.press("Control+A")
    await page.keyboard.type("3")
    await page.keyboard.press("Enter")
    await wait_until(lambda: shown(page) not in ("", before), "the session is in the address")
    return shown(page)


async def reached(page: Page, key: str, times: int) -> list[str]:
    """What has the focus after each press of `key`."""
    names = []
    for _ in range(times):
        await page.keyboard.press(key)
        names.append(
            await page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.textContent.trim()")
        )
    return names
