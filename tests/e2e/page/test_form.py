"""The form: what it sends, and what is wrong by the field."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from libs.common import subjects
from libs.common.messages import Filters, Orientation, Reason, RequestRecord
from libs.common.session_log import SessionLog
from tests.e2e.page.steps import cards, clip, crawled, found, search, searched

pytestmark = pytest.mark.asyncio(loop_scope="package")


REFUSED = [
    ("glaze", "0", "Limit", "The limit must be from 1 to 10000, not 0."),
    ("glaze", "", "Limit", "The limit must be a whole number."),
    ("  ", "3", "Topic", "The topic must not be empty."),
    ("x" * 501, "3", "Topic", "The topic has 501 characters; 500 are the most."),
    ("pin.it/", "0", "Limit", "The limit must be from 1 to 10000, not 0."),
    ("https://pin.it/", "3", "Topic", "The address cannot be read: a short link has the form https://pin.it/<code>."),
]


async def test_a_refusal_is_shown_by_its_field(page: Page) -> None:
    for query, limit, field, sentence in REFUSED:
        await search(page, query, limit)
        box = page.get_by_label(field, exact=True)
        await expect(box).to_have_accessible_description(sentence)
        await expect(box).to_have_attribute("aria-invalid", "true")
        await expect(box).to_be_focused()
        await expect(page.get_by_role("button", name="Search", exact=True)).to_be_visible()
        await expect(page.locator("#status")).to_be_hidden()
        await box.press_sequentially("1")
        await expect(box).not_to_have_attribute("aria-invalid", "true")


async def test_a_refused_search_leaves_the_videos_of_the_one_before(page: Page, log: SessionLog, media: str) -> None:
    session = await searched(page, "first")
    await found(log, session, clip(media, 1))
    await crawled(log, session, Reason.EXHAUSTED, 1)
    await expect(page.locator("#state")).to_contain_text("the site has no more")
    await search(page, "second", "0")
    await expect(page.locator("#limit-error")).not_to_be_empty()
    await expect(cards(page)).to_have_count(1)
    assert session in page.url


async def test_filters_are_sent_and_told_of(page: Page, log: SessionLog) -> None:
    await page.locator("#filters summary").click()
    await page.get_by_label("Shortest").fill("2.5")
    await page.get_by_label("Longest").fill("60")
    await page.get_by_label("Least height").fill("720")
    await page.get_by_label("Orientation").select_option("portrait")
    await page.get_by_label("Published since").fill("2026-01-31")
    for name in ("With captions", "Not promoted", "Only what is new"):
        await page.get_by_label(name).check()
    await page.get_by_label("New to").fill("page-test")
    await expect(page.locator("#filters-count")).to_have_text("8 set")
    session = await searched(page, "picky")
    record = await log.get(session, subjects.REQUEST)
    assert record is not None
    assert isinstance(record.message, RequestRecord)
    assert record.message.request.filters == Filters(
        min_duration_s=2.5,
        max_duration_s=60,
        min_height=720,
        orientation=Orientation.PORTRAIT,
        with_captions=True,
        exclude_promoted=True,
        created_after="2026-01-31T00:00:00+00:00",
    )
    assert record.message.request.scope == "page-test"
    told = page.get_by_role("list", name="Filters of this search").get_by_role("listitem")
    await expect(told).to_have_text(
        [
            *("2.5 s or longer", "60 s or shorter", "720 px or higher", "portrait", "since Jan 31, 2026"),
            *("with captions", "not promoted", "new to page-test"),
        ]
    )
    await crawled(log, session, Reason.EXHAUSTED, 0)
    await expect(page.locator("#empty")).to_be_visible()
    await page.get_by_role("button", name="Reset").click()
    await expect(page.locator("#filters-count")).to_be_empty()
    session = await searched(page, "not picky")
    record = await log.get(session, subjects.REQUEST)
    assert record is not None
    assert isinstance(record.message, RequestRecord)
    assert (record.message.request.filters, record.message.request.scope) == (None, None)


UNKEPT: list[tuple[dict[str, str], str, str]] = [
    (
        {"Shortest": "60", "Longest": "5"},
        "Shortest",
        "The shortest duration must not be more than the longest duration, which is 5.0.",
    ),
    ({"Least height": "0"}, "Least height", "The least height must be from 1 to 10000."),
    ({"Least height": "0.5"}, "Least height", "The least height must be a whole number."),
    ({"New to": "with a space"}, "New to", "The name must be 1 to 64 letters, digits, _ or -."),
]


async def test_a_filter_that_cannot_be_kept_is_named(page: Page) -> None:
    fold = page.locator("#filters summary")
    for given, field, sentence in UNKEPT:
        await fold.click()
        await page.get_by_role("button", name="Reset").click()
        if "New to" in given:
            await page.get_by_label("Only what is new").check()
        for name, value in given.items():
            await page.get_by_label(name).fill(value)
        await fold.click()
        box = page.get_by_label(field)
        await expect(box).to_be_hidden()
        await search(page, "glaze")
        await expect(box).to_be_focused()  # though it was folded away
        await expect(box).to_have_attribute("aria-invalid", "true")
        await expect(page.locator(f"#{await box.get_attribute('id')}-error")).to_have_text(sentence)
        await expect(page.locator("#status")).to_be_hidden()
        await fold.click()
