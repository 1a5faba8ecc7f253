"""Taking links along: copied, as lists in four formats, as files."""

from __future__ import annotations

import json

import httpx2
import pytest
from playwright.async_api import Locator, Page, expect

from libs.common.messages import Kind, Pin, Reason
from libs.common.session_log import SessionLog
from tests.e2e.page.steps import MEDIA, Gateway, cards, clip, crawled, found, searched

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def saved(page: Page, button: Locator, name: str) -> bytes:
    """What a click on `button` saves, as `name`."""
    async with page.expect_download() as waiting:
        await button.click()
    download = await waiting.value
    assert download.suggested_filename == name
    path = await download.path()
    return path.read_bytes()


async def test_the_links_are_saved_as_lists_and_a_video_as_a_file(
    page: Page, gateway: Gateway, log: SessionLog, media: str
) -> None:
    session = await searched(page, "to take along", "5")
    formulas = ('=HYPERLINK("x"), "quoted"', "+1", "-1", "@SUM(A1)", "two\r\nlines")
    videos = [clip(media, number, pin=Pin(title=title)) for number, title in enumerate(formulas, 1)]
    videos[1] = clip(media, 2, kind=Kind.EMBED, url="https://www.youtube.com/embed/x", verified=False, duration_ms=None)
    videos[2] = clip(media, 3, pin=Pin(title="-1", description="\tA tab\n\u2028#EXTINF:0,not a line;=1;- x"))
    await found(log, session, *videos)
    await crawled(log, session, Reason.LIMIT, 5)
    await expect(page.locator("#status")).to_have_attribute("data-phase", "done")

    async def listed(name: str, suffix: str) -> str:
        button = page.get_by_role("button", name=f"as {name}")
        return (await saved(page, button, f"pinstream-to-take-along.{suffix}")).decode()

    assert (await listed("a text of URLs", "txt")).splitlines() == [video.url for video in videos]
    assert [video["id"] for video in json.loads(await listed("JSON", "json"))] == [video.id for video in videos]
    assert (await listed("M3U", "m3u")).split("\n") == [
        "#EXTM3U",
        "#EXTENC:UTF-8",
        *(
            line
            for video, title in zip(videos, formulas, strict=True)
            if video.kind is not Kind.EMBED
            for line in (f"#EXTINF:75,{title.replace(chr(13) + chr(10), ' ')}", video.url)
        ),
        "",
    ]
    table = await listed("CSV", "csv")
    assert '"\'=HYPERLINK(""x""), ""quoted"""' in table  # a spreadsheet must not run it
    async with httpx2.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        answer = await client.get(f"/v1/sessions/{session}/videos", headers={"Accept": "text/csv"})
    assert table == answer.text
    file = page.get_by_role("link", name="Download +1")
    await expect(file).to_have_count(0)  # of an embed there is none
    file = page.get_by_role("link", name="Download @SUM(A1)")
    assert await saved(page, file, "sum-a1-00000000.mp4") == (MEDIA / "clip_360x640.mp4").read_bytes()


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
