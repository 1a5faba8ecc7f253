"""What is not to be trusted: what frames say, what a page could be made to load, and what is bundled with it."""

from __future__ import annotations

import re
from hashlib import sha256

import httpx2
import pytest
from playwright.async_api import Browser, Error, Page, expect

from libs.common.messages import Creator, Pin
from libs.common.session_log import SessionLog
from services.gateway.pages import STATIC
from tests.e2e.page.steps import Gateway, cards, clip, found, opened, searched

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_nothing_in_a_frame_can_become_markup_or_script(page: Page, log: SessionLog, media: str) -> None:
    evil = "<img src=x onerror=alert(1)>"
    bad = "javascript:alert(1)"
    pin = Pin(id="1", url=bad, title=evil, description=evil, link=bad, creator=Creator(full_name=evil, url=bad))
    hostile = clip(media, 1, url=bad, poster_url=bad, captions={"<b>": bad}, pin=pin)
    session = await searched(page, evil)
    await found(log, session, hostile)
    await expect(cards(page).get_by_role("heading")).to_have_text(evil)
    await expect(page.locator("#topic")).to_have_text(evil)
    await expect(cards(page).get_by_role("button", name="Play")).to_be_disabled()
    await cards(page).get_by_role("button", name="Details").click()
    await expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text(evil)
    await expect(page.locator("[href^=javascript], [src^=javascript], img[src=x]")).to_have_count(0)


async def test_a_title_changes_nothing_beside_itself(page: Page, log: SessionLog, media: str) -> None:
    session = await searched(page, "letters")
    titles = ["\u202egnp.exe \U0001f3fa", "w" * 300, "\u0645\u0631\u062d\u0628\u0627"]
    await found(log, session, *(clip(media, number, pin=Pin(title=title)) for number, title in enumerate(titles, 1)))
    await expect(cards(page)).to_have_count(3)
    boxes = await cards(page).evaluate_all("all => all.map((one) => one.getBoundingClientRect().toJSON())")
    assert len({(box["width"], box["height"], box["top"]) for box in boxes}) == 1
    reversed_ = cards(page).first.locator(".title")
    assert await reversed_.evaluate("node => getComputedStyle(node).unicodeBidi") in ("isolate", "plaintext")


async def test_no_script_but_the_pages_own_can_run(browser: Browser, gateway: Gateway) -> None:
    async with httpx2.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        sent = (await client.get("/")).headers["Content-Security-Policy"]
    assert "script-src 'self';" in sent
    assert "unsafe" not in sent
    assert "blob:" not in sent.replace("media-src http: https: blob:", "")
    async with opened(browser, gateway.url, faults_expected=True) as page:
        meta = await page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
        assert sorted(f"{meta}; frame-ancestors 'none'".split("; ")) == sorted(sent.split("; "))
        await expect(page.locator("#welcome")).to_be_visible()
        with pytest.raises(Error, match="TrustedScript"):
            await page.add_script_tag(content="window.ran = true")
        with pytest.raises(Error, match="TrustedScriptURL"):
            await page.add_script_tag(url="https://example.com/x.js")
        with pytest.raises(Error, match="TrustedHTML"):
            await page.evaluate("() => { document.body.innerHTML = '<b>bold</b>'; }")
        assert await page.evaluate("() => window.ran") is None


async def test_a_page_that_was_never_used_loads_nothing_from_elsewhere(browser: Browser, gateway: Gateway) -> None:
    async with opened(browser, "about:blank") as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(gateway.url, wait_until="networkidle")
        assert [url for url in asked if not url.startswith(gateway.url)] == []
        modules = {f"{gateway.url}static/page/{file.name}" for file in (STATIC / "page").iterdir()}
        assert modules <= set(asked)
        assert not any("vendor" in url for url in asked)  # half a megabyte that most never need
        named = await page.locator("link[rel=modulepreload]").evaluate_all("all => all.map(({ href }) => href)")
        assert set(named) == modules  # asked for at once, not one after another as they name each other


@pytest.mark.parametrize("path", ["", "status", "docs", "static/app.js", "static/page/tabs.js", "static/style.css"])
async def test_what_a_browser_keeps_it_asks_for_again_before_it_is_used(gateway: Gateway, path: str) -> None:
    async with httpx2.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        first = await client.get(path)
        again = await client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (first.status_code, again.status_code) == (200, 304)
    assert first.headers["Cache-Control"] == again.headers["Cache-Control"] == "no-cache"


async def test_a_page_that_the_browser_had_kept_works_as_before(browser: Browser, gateway: Gateway) -> None:
    async with opened(browser, gateway.url) as page:  # which hears of what the policy refuses
        for path in ("", "status", "docs", ""):
            await page.goto(f"{gateway.url}{path}")
            await page.reload()  # is answered by 304
        await expect(page.locator("#welcome")).to_be_visible()


async def test_what_is_bundled_is_what_its_note_says() -> None:
    note = (STATIC / "vendor" / "README.md").read_text()
    noted = dict(re.findall(r"`([\w.]+)` \| `([0-9a-f]{64})`", note))
    assert noted
    for name, digest in noted.items():
        assert sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == digest
