"""The page of a gateway that asks for a key."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from libs.common import keys
from libs.common.session_log import SessionLog
from tests.e2e.page.steps import Gateway, cards, clip, found, opened, search, shown, tab
from tests.wait import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest_asyncio.fixture(loop_scope="package")
async def guarded(nats_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    gateway = Gateway(nats_url, tmp_path_factory.mktemp("guarded") / "log", ANONYMOUS="no")
    await gateway.start()
    yield gateway
    await gateway.kill()


async def test_a_key_is_asked_for_used_and_kept_in_the_tab_alone(
    browser: Browser, guarded: Gateway, log: SessionLog, media: str
) -> None:
    made = await keys.create(log.bus, "page")
    async with opened(browser, guarded.url) as page:
        addresses: list[str] = []
        page.on("request", lambda request: addresses.append(request.url))
        page.on("websocket", lambda socket: addresses.append(socket.url))
        form = page.get_by_role("form", name="This server asks for a key")
        field = page.get_by_label("API key or token")
        await expect(form).to_be_hidden()
        await search(page, "by invitation")
        await expect(field).to_be_focused()
        await expect(page.locator("#key-error")).to_be_empty()

        await field.fill("not a key")
        await field.press("Enter")
        await expect(page.locator("#key-error")).to_have_text("A key has letters, digits and . _ - only.")
        await field.fill(f"ps_{'0' * 16}_{'x' * 43}")
        await field.press("Enter")
        await expect(page.locator("#key-error")).to_contain_text("This key was refused.")
        await expect(field).to_have_attribute("aria-invalid", "true")

        await field.fill(made.text)
        await page.get_by_role("button", name="Use this key").click()
        await expect(form).to_be_hidden()
        await expect(page.locator("#topic")).to_have_text("by invitation")  # which was not asked for again
        await wait_until(lambda: shown(page), "the session is in the address")
        session = shown(page)
        request = (await log.state(session)).request
        assert request is not None
        assert request.owner == f"key:{made.record.owner}"
        await found(log, session, clip(media, 1))
        await expect(cards(page)).to_have_count(1)

        await page.reload()
        await expect(cards(page)).to_have_count(1)
        assert len([address for address in addresses if address.startswith("ws")]) >= 4
        assert not any(made.text in address for address in [*addresses, page.url])
        assert made.text not in json.dumps(await page.evaluate("() => ({ ...localStorage })"))

        await keys.revoke(log.bus, made.record.id)
        await expect(page.locator("#key-error")).to_contain_text("revoked")
        await expect(page.locator("#state")).to_have_text("Waiting for a key")
        await expect(cards(page)).to_have_count(1)
        await page.get_by_role("button", name="Forget it").click()
        await expect(page.get_by_role("button", name="Forget it")).to_be_hidden()
        await expect(form).to_be_visible()
        assert await page.evaluate("() => sessionStorage.length") == 0


async def test_another_owners_key_hides_searches_and_their_own_brings_them_back(
    browser: Browser, guarded: Gateway, log: SessionLog, media: str
) -> None:
    first, second = [await keys.create(log.bus, name) for name in ("first", "second")]
    async with opened(browser, guarded.url) as page:
        field, forget = page.get_by_label("API key or token"), page.get_by_role("button", name="Forget it")
        notice = page.locator("#notice")
        await search(page, "of the first")
        await field.fill(first.text)
        await field.press("Enter")
        await wait_until(lambda: shown(page), "the session is in the address")
        session, address = shown(page), page.url
        await found(log, session, clip(media, 1))
        await expect(cards(page)).to_have_count(1)

        await forget.click()
        await field.fill(second.text)
        await field.press("Enter")
        await expect(notice).to_have_text("A search of another key is not listed until that key is used again.")
        await expect(tab(page, "of the first")).to_have_count(0)
        assert shown(page) == ""
        await page.get_by_role("button", name="Dismiss").click()
        await expect(notice).to_be_hidden()
        await page.evaluate("(address) => { location.href = address; }", address)  # as by the way back
        await expect(notice).to_be_visible()
        await expect(tab(page, "of the first")).to_have_count(0)

        await forget.click()
        await field.fill(first.text)
        await field.press("Enter")
        await tab(page, "of the first").click()
        await expect(cards(page)).to_have_count(1)
        assert shown(page) == session
        kept = json.dumps(await page.evaluate("() => ({ ...localStorage })"))
        assert first.text not in kept and second.text not in kept
