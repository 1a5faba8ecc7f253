"""Playing in place: on hover without sound, on a click, a tap or a key with it; MP4 by the browser, HLS by hls.js."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser, Locator, expect

from libs.common.messages import Kind, Video
from libs.common.session_log import SessionLog
from tests.e2e.page.steps import Gateway, cards, clip, found, opened, searched
from tests.fake_pinterest import RunningSite, expected_results

pytestmark = pytest.mark.asyncio(loop_scope="package")

MOVES: dict[str, Any] = {"reduced_motion": "no-preference"}
PHONE: dict[str, Any] = {"has_touch": True, "is_mobile": True, "width": 390, "height": 844}


def stream_of(site: RunningSite) -> Video:
    """A stream of the stand-in: a ladder of pictures, and the sound apart."""
    expected = next(video for video in expected_results("ceramic glaze").videos if video.kind == "hls")
    return clip(site.origin, 1, kind=Kind.HLS, url=f"{site.origin}{expected.hls}", poster_url=None, captions={})


async def playing(player: Locator) -> None:
    """Returns when pictures have come and time passes."""
    await expect(player).to_have_js_property("paused", False)
    await player.evaluate(
        """async (player) => {
            const before = player.currentTime;
            while (!(player.videoWidth > 0 && player.currentTime !== before)) await new Promise(requestAnimationFrame);
        }"""
    )


async def test_a_stream_plays_on_hover_and_with_sound_on_a_click(
    browser: Browser, gateway: Gateway, log: SessionLog, site: RunningSite
) -> None:
    async with opened(browser, gateway.url, **MOVES) as page:
        assert await page.evaluate("() => MediaSource.isTypeSupported('video/mp4; codecs=\"avc1.64001F\"')")
        session = await searched(page, "streams")
        await found(log, session, stream_of(site))
        card, player = cards(page).first, cards(page).first.locator("video")
        await expect(card.locator(".badge")).to_have_text("HLS, verified")
        await card.locator(".frame").hover()
        await playing(player)
        assert (await player.evaluate("player => player.currentSrc")).startswith("blob:")  # fed by hls.js
        await expect(player).to_have_js_property("muted", True)
        await expect(player).to_have_js_property("controls", False)
        await page.mouse.move(0, 0)
        await expect(player).to_have_count(0)
        await expect(card.get_by_role("button", name="Play")).to_be_visible()

        await card.get_by_role("button", name="Play").click()
        await playing(player)
        await expect(player).to_have_js_property("muted", False)
        await expect(player).to_have_js_property("controls", True)
        assert await player.evaluate("player => player.webkitAudioDecodedByteCount") > 0
        await page.mouse.move(0, 0)
        await expect(player).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(player).to_have_count(0)
        await expect(card.get_by_role("button", name="Play")).to_be_focused()


@pytest.mark.parametrize("way", ["tap", "key"])
async def test_a_file_plays_on_a_tap_or_a_key_one_at_a_time_and_pauses_out_of_sight(
    browser: Browser, gateway: Gateway, log: SessionLog, media: str, way: str
) -> None:
    kind: dict[str, Any] = PHONE if way == "tap" else {}
    async with opened(browser, gateway.url, **kind) as page:
        session = await searched(page, "files", "20")
        await found(log, session, *(clip(media, number, captions={}) for number in range(1, 21)))
        await expect(cards(page)).to_have_count(20)

        async def play(number: int) -> None:
            button = cards(page).nth(number).get_by_role("button", name="Play")
            await (button.tap() if way == "tap" else button.press("Enter"))

        await play(0)
        player = cards(page).nth(0).locator("video")
        await playing(player)
        await expect(player).to_have_js_property("controls", True)
        await play(1)
        await expect(player).to_have_count(0)
        player = cards(page).nth(1).locator("video")
        await playing(player)
        await player.evaluate("player => { player.loop = true; }")
        await page.evaluate("() => scrollTo(0, document.body.scrollHeight)")
        await expect(player).to_have_js_property("paused", True)


async def test_a_hover_moves_nothing_for_who_wants_no_motion(
    browser: Browser, gateway: Gateway, log: SessionLog, media: str
) -> None:
    async with opened(browser, gateway.url, reduced_motion="reduce") as page:
        session = await searched(page, "calm")
        await found(log, session, clip(media, 1))
        frame = cards(page).first.locator(".frame")
        await frame.hover()
        await page.evaluate("() => new Promise((done) => setTimeout(done, 400))")  # longer than a hover has to dwell
        await expect(frame.locator("video")).to_have_count(0)


async def test_captions_are_shown_with_a_file_of_another_host(
    browser: Browser, gateway: Gateway, log: SessionLog, media: str
) -> None:
    async with opened(browser, gateway.url) as page:
        text = "WEBVTT\n\n00:00.000 --> 00:03.000\nSlow cooling\n"
        await page.route(
            "**/de.vtt", lambda route: route.fulfill(body=text, headers={"Access-Control-Allow-Origin": "*"})
        )
        session = await searched(page, "spoken")
        await found(log, session, clip(media, 1))
        await cards(page).first.get_by_role("button", name="Play").click()
        player = cards(page).first.locator("video")
        await playing(player)
        await expect(player.locator("track[srclang=de]")).to_have_count(1)
        cue = """async (player) => {
            const [track] = player.textTracks;
            track.mode = "showing";
            while (!track.cues?.length) await new Promise(requestAnimationFrame);
            return track.cues[0].text;
        }"""
        assert await player.evaluate(cue) == "Slow cooling"


async def test_what_cannot_be_played_or_is_no_file_says_so(
    browser: Browser, gateway: Gateway, log: SessionLog, media: str
) -> None:
    async with opened(browser, gateway.url, faults_expected=True) as page:
        session = await searched(page, "not here", "4")
        gone = clip(media, 1, url=f"{media}/gone.mp4", poster_url=f"{media}/gone.jpg", captions={})
        stream = clip(media, 2, kind=Kind.HLS, url=f"{media}/gone.m3u8", captions={})
        embed = clip(media, 3, kind=Kind.EMBED, url="https://www.youtube.com/embed/x", verified=False)
        await found(log, session, gone, stream, embed)
        for number, video in ((0, gone), (1, stream)):
            card = cards(page).nth(number)
            await card.get_by_role("button", name="Play").press("Enter")
            await expect(card.locator(".remark")).to_contain_text("could not be played here")
            await expect(card.get_by_role("link", name="open the link")).to_have_attribute("href", video.url)
            await expect(card.get_by_role("button", name="Play")).to_be_focused()
        await expect(cards(page).nth(0).locator(".missing")).to_be_visible()  # in place of the poster
        await expect(cards(page).nth(1).locator(".missing")).to_be_hidden()
        await expect(cards(page).nth(2).locator(".badge")).to_have_text("Embed· unverified")
        link = cards(page).nth(2).get_by_role("link", name="on its own site")
        await expect(link).to_have_attribute("href", embed.url)
        await expect(page.get_by_role("link", name="Download")).to_have_count(1)
