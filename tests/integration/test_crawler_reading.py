"""The crawler's reading with a real Chromium, of the stand-in site."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing, suppress
from pathlib import Path

import httpx2
import msgspec
import psutil
import pytest
from playwright.async_api import Error

from libs.common.errors import StartFailed
from libs.common.messages import Reason
from services.crawler.browser import Browser, main
from services.crawler.failure import CrawlFailed
from services.crawler.reading import read
from services.crawler.settings import CrawlerSettings
from tests.fake_pinterest.running import RunningSite, running_site
from tests.integration.crawled import Crawl, Strategy, assert_all_found, request, settings
from tests.wait import wait_until


@pytest.fixture(scope="module")
def site() -> Iterator[RunningSite]:
    with running_site(tls=True) as site:
        yield site


@pytest.fixture(autouse=True)
def no_browser_is_left() -> Iterator[None]:
    yield
    children = psutil.Process().children(recursive=True)
    assert not [child for child in children if "chrom" in child.name() and child.status() != psutil.STATUS_ZOMBIE]


async def crawl(site: RunningSite, query: str, strategy: Strategy = "auto", **more: object) -> Crawl:
    async with Browser(settings(site, strategy, warm_contexts=0, **more)) as browser:
        got = await Crawl().run(browser, query)
        assert not browser.open_tabs
    return got


@pytest.mark.parametrize("strategy", ["feed", "page"])
@pytest.mark.parametrize("query", ["glaze pins:120 seed:1", "glaze pins:120 seed:2", "kiln pins:500 seed:3"])
async def test_every_video_is_found_and_nothing_else_in_each_way_alone(
    site: RunningSite, query: str, strategy: Strategy
) -> None:
    got = await crawl(site, query, strategy)
    assert_all_found(got, query)
    assert got.ways == {strategy}


@pytest.mark.parametrize("strategy", ["feed", "page"])
async def test_a_search_is_read_to_any_depth(site: RunningSite, strategy: Strategy) -> None:
    """Its cursors grow beyond 4 kB on the way, which a bound on texts once cut."""
    query = "glaze pins:2200 seed:deep"
    assert_all_found(await crawl(site, query, strategy), query)


@pytest.mark.parametrize("strategy", ["feed", "page"])
async def test_what_is_too_long_for_an_address_is_asked_by_a_form(site: RunningSite, strategy: Strategy) -> None:
    query = "glaze pins:600 seed:long uri:3500"
    assert_all_found(await crawl(site, query, strategy), query)


@pytest.mark.parametrize("fault", ["e503", "cut", "truncated", "rate_limited", "empty_page", "loop", "no_cursor"])
@pytest.mark.parametrize("strategy", ["feed", "page"])
async def test_a_fault_of_the_moment_costs_no_video(site: RunningSite, fault: str, strategy: Strategy) -> None:
    query = f"glaze pins:120 seed:{strategy} fault:{fault} at:middle"
    assert_all_found(await crawl(site, query, strategy), query)


@pytest.mark.parametrize("fault", ["forbidden", "login_wall", "stubs", "changed_envelope", "renamed_field"])
async def test_what_the_feed_is_refused_once_is_found_all_the_same(site: RunningSite, fault: str) -> None:
    query = f"glaze pins:120 fault:{fault} at:middle"
    assert_all_found(await crawl(site, query), query)


async def test_stubs_are_asked_for_by_themselves(site: RunningSite) -> None:
    query = "glaze pins:60 gated:always"
    got = await crawl(site, query)
    assert_all_found(got, query)
    assert got.ways == {"page"}


@pytest.mark.parametrize(
    ("strategy", "queries"),
    [
        ("feed", ["glaze pins:30 gated:always", "glaze pins:1 mix:pictures bare:1", "glaze pins:100 stories:named"]),
        ("page", ["glaze pins:0 embedded:yes end:none", "glaze pins:25 embedded:yes end:none"]),
    ],
)
async def test_what_is_told_sparingly_is_read_whole_in_each_way_alone(
    site: RunningSite, strategy: Strategy, queries: list[str]
) -> None:
    """Stubs alone, stories that only name their videos, and HTML with all pins and no cursor."""
    async with Browser(settings(site, strategy, warm_contexts=0)) as browser:
        found = await asyncio.gather(*(Crawl().run(browser, query) for query in queries))
    for query, got in zip(queries, found, strict=True):
        assert_all_found(got, query)


async def test_a_page_that_carries_its_first_pins_is_read_whole(site: RunningSite) -> None:
    query = "glaze pins:120 embedded:yes"
    assert_all_found(await crawl(site, query, "page"), query)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("rate_limited", Reason.RATE_LIMITED),
        ("rate_limited_bare", Reason.RATE_LIMITED),
        ("e500", Reason.UNREACHABLE),
        ("forbidden", Reason.BLOCKED),
        ("login_wall", Reason.LOGIN_REQUIRED),
        ("consent_wall", Reason.LOGIN_REQUIRED),
        ("truncated", Reason.UPSTREAM_CHANGED),
        ("cut", Reason.UNREACHABLE),
        ("loop", Reason.UPSTREAM_CHANGED),
    ],
)
async def test_a_lasting_refusal_ends_with_its_reason_and_what_was_found(
    site: RunningSite, fault: str, reason: Reason
) -> None:
    got = await crawl(site, f"glaze pins:240 fault:{fault} at:middle times:always")
    assert got.failed is not None and got.failed.reason is reason
    assert got.failed.message.endswith(".")
    assert got.media


@pytest.mark.parametrize("at", ["first", "middle"])
async def test_a_page_that_goes_round_in_circles_is_given_up(site: RunningSite, at: str) -> None:
    async with asyncio.timeout(90):
        got = await crawl(site, f"glaze pins:120 fault:loop times:always at:{at} seed:circle", "page")
    assert got.failed is not None
    assert got.failed.reason is Reason.UPSTREAM_CHANGED


async def test_a_rate_limit_is_waited_for_as_asked_and_told_of(site: RunningSite) -> None:
    started = time.time()
    got = await crawl(site, "glaze pins:60 fault:rate_limited at:first", "feed")
    [waiting] = [told for told in got.reports if told[0] == "waiting"]
    assert waiting[1] == "rate_limited"
    assert waiting[2] is not None and waiting[2] >= started + 1
    assert got.reports[-1][0] == "crawling"


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "https://nowhere.invalid"])
async def test_a_site_that_cannot_be_reached_is_told_of(address: str) -> None:
    async with Browser(CrawlerSettings(site_url=address)) as browser:
        got = await Crawl().run(browser, "glaze")
    assert got.failed is not None and got.failed.reason is Reason.UNREACHABLE


async def test_the_real_names_are_served_through_a_proxy_by_an_authority_of_its_own(site: RunningSite) -> None:
    query = "glaze pins:60 seed:proxy"
    told = CrawlerSettings(upstream_proxy=site.proxy, upstream_ca_file=site.ca_file, requests_per_second=100)
    for strategy in ("feed", "page"):
        async with Browser(_with(told, crawl_strategy=strategy)) as browser:
            got = await Crawl().run(browser, query)
        assert_all_found(got, query)
        assert next(iter(got.media.values())).pin.url.startswith("https://www.pinterest.com/pin/")  # type: ignore[union-attr]


async def test_without_the_authority_the_proxied_site_is_not_trusted(site: RunningSite) -> None:
    async with Browser(CrawlerSettings(upstream_proxy=site.proxy)) as browser:
        got = await Crawl().run(browser, "glaze")
    assert got.failed is not None and got.failed.reason is Reason.UNREACHABLE
    assert "UPSTREAM_CA_FILE" in got.failed.message


@pytest.mark.parametrize("proxied", [False, True])
async def test_nothing_gets_out_to_a_host_that_is_not_on_the_list(site: RunningSite, proxied: bool) -> None:
    told = CrawlerSettings(upstream_proxy=site.proxy, upstream_ca_file=site.ca_file) if proxied else settings(site)
    async with Browser(_with(told, warm_contexts=0)) as browser, browser.lease() as tab:
        await tab.land()
        tab.rendering = True
        await tab.context.unroute_all()  # the browser must hold by itself, with nothing intercepted
        before = await _connects(site)
        for address in ("https://example.com/", "http://203.0.113.7/", "https://[2001:db8::1]/", "http://3405803783/"):
            with pytest.raises(Error):
                await tab.page.evaluate("(address) => fetch(address, {mode: 'no-cors'})", address)
        opened = await tab.page.evaluate(
            """() => new Promise((done) => {
                 const socket = new WebSocket("wss://example.com/");
                 socket.onopen = () => done(true);
                 socket.onerror = () => done(false);
               })"""
        )
        assert not opened
        assert await _connects(site) == before


async def test_a_browser_crash_is_survived_once(site: RunningSite) -> None:
    query = "glaze pins:500 seed:crash"
    got = Crawl()
    async with Browser(settings(site, "feed")) as browser:
        async with aclosing(read(browser, request(query), got.report)) as pages:
            async for page in pages:
                got.media.update({media.item: media for media in page.media})
                if page.number == 2:
                    _kill_browser()
                    await wait_until(lambda: not browser.ready, description="the browser is seen to be gone")
        assert browser.ready
    assert_all_found(got, query)


async def test_a_browser_that_crashes_again_ends_the_crawl(site: RunningSite) -> None:
    got = Crawl()
    async with Browser(settings(site, "feed", warm_contexts=0)) as browser:
        with pytest.raises(CrawlFailed) as failed:
            async for _ in read(browser, request("glaze pins:500 seed:crash"), got.report):
                _kill_browser()
                await wait_until(lambda: not browser.ready, description="the browser is seen to be gone")
    assert failed.value.reason is Reason.BROWSER_FAILED


async def test_a_renderer_crash_is_survived(site: RunningSite) -> None:
    query = "glaze pins:220 seed:renderer"
    got = Crawl()
    async with Browser(settings(site, "feed", warm_contexts=0)) as browser:
        async for page in read(browser, request(query), got.report):
            got.media.update({media.item: media for media in page.media})
            if page.number == 1:
                _kill_browser("--type=renderer")
                await wait_until(lambda: not any(tab.alive for tab in browser.open_tabs), description="renderer gone")
    assert_all_found(got, query)


@pytest.mark.parametrize("strategy", ["feed", "page"])
async def test_a_cancelled_crawl_gives_its_context_back_within_a_second(site: RunningSite, strategy: Strategy) -> None:
    async with Browser(settings(site, strategy, warm_contexts=0)) as browser:
        crawling = asyncio.create_task(Crawl().run(browser, "glaze pins:220 fault:hang at:first times:always"))
        await wait_until(lambda: bool(browser.open_tabs), description="a tab is open")
        started = time.monotonic()
        crawling.cancel()
        await asyncio.gather(crawling, return_exceptions=True)
        assert crawling.cancelled()
        await wait_until(lambda: not browser.open_tabs, description="the tab is closed")
        assert time.monotonic() - started < 1.5


async def test_a_reader_that_has_enough_leaves_nothing_open(site: RunningSite) -> None:
    async with Browser(settings(site, warm_contexts=0)) as browser:
        async with aclosing(read(browser, request("glaze pins:500"), Crawl().report)) as pages:
            async for page in pages:
                assert page.media
                break
        assert not browser.open_tabs


async def test_sessions_that_read_by_the_page_share_no_cookies(site: RunningSite) -> None:
    async with Browser(settings(site)) as browser, browser.lease() as one, browser.lease() as other:
        await one.land()
        await other.land()
        [first], [second] = await one.context.cookies(), await other.context.cookies()
        assert first.get("name") == second.get("name") == "csrftoken"
        assert first.get("value") != second.get("value")


async def test_a_missing_browser_or_tool_is_told_in_a_sentence(
    site: RunningSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for told, needed in (
        (CrawlerSettings(), "chromium"),
        (CrawlerSettings(upstream_ca_file=site.ca_file), "libnss3-tools"),
    ):
        with pytest.raises(StartFailed, match=needed):
            async with Browser(told):
                pass


def test_find_prints_the_browser_or_says_how_to_get_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["--find"]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["--find"]) == 1
    assert "apt-get install chromium" in capsys.readouterr().err


def _with(told: CrawlerSettings, **changed: object) -> CrawlerSettings:
    return msgspec.structs.replace(told, **changed)


def _kill_browser(kind: str | None = None) -> None:
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            words = " ".join(process.cmdline())
            if kind in words if kind else "--user-data-dir=" in words and "--type=" not in words:
                process.kill()


async def _connects(site: RunningSite) -> dict[str, int]:
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"{site.origin}/_stand_in/connects")
        return {
            host: count for host, count in answer.json().items() if "example" in host or "203" in host or ":" in host
        }
