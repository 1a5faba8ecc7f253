"""A page of the site that tries each way out of the browser: none leads anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.async_api import Download, Error

from libs.common.messages import Reason
from services.crawler.browser import Browser
from services.crawler.launch import Allowed, egress
from services.crawler.listing import of_search
from services.crawler.settings import CrawlerSettings
from services.crawler.tab import ANSWERS_S, Tab
from tests.fake_pinterest.running import RunningSite, running_site
from tests.integration.crawled import Crawl, assert_all_found
from tests.integration.trap import Trap, trap
from tests.wait import wait_for, wait_until

WAYS = ("fetch", "image", "script", "worker-fetch", "socket", "beacon", "iframe", "form", "opened")


@pytest.fixture(scope="module")
def site() -> Iterator[RunningSite]:
    with running_site(tls=True) as site:
        yield site


@pytest.fixture
async def snare() -> AsyncIterator[Trap]:
    async with trap() as set_:
        yield set_


def told(site: RunningSite, *, proxied: bool = False, **more: object) -> CrawlerSettings:
    fields: dict[str, Any] = {"requests_per_second": 100.0, "warm_contexts": 0, **more}
    if proxied:
        return CrawlerSettings(upstream_proxy=site.proxy, upstream_ca_file=site.ca_file, **fields)
    return CrawlerSettings(site_url=site.origin, media_hosts=(urlsplit(site.origin).netloc,), **fields)


async def visit(tab: Tab, snare: Trap) -> dict[str, Any]:
    """Opens the hostile page and returns what it says of its attempts, when it has made them all."""
    tab.rendering = True
    await tab.goto(of_search(f"glaze pins:30 hostile:{snare.port}").path)
    tried: dict[str, Any] = {}

    async def done() -> bool:
        try:
            async with asyncio.timeout(ANSWERS_S):
                tried.update(await tab.page.evaluate("window.tried ?? {}"))
        except Error as error:
            if "garbage collected" not in error.message:  # what Playwright says at times where a page is busy
                raise
        return bool(tried.get("done"))

    await wait_for(done, "the page has tried everything", timeout_s=90)
    return tried


@pytest.mark.parametrize("intercepted", [True, False], ids=["as it is", "nothing intercepted"])
@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "proxied"])
async def test_no_way_out_of_the_browser_leads_anywhere(
    site: RunningSite, snare: Trap, proxied: bool, intercepted: bool
) -> None:
    downloads: list[Download] = []
    connects = await _connects(site)
    async with asyncio.timeout(160), Browser(told(site, proxied=proxied)) as browser, browser.lease() as tab:
        tab.page.on("download", lambda download: downloads.append(download))  # noqa: PLW0108 - it marks its handlers
        if not intercepted:
            await tab.context.unroute_all()  # the browser must hold by itself
        tried = await visit(tab, snare)
        assert tried["opened"] == tried["read"] == tried["granted"] == []
        assert "peer" in tried["workers"] and "service" not in tried["workers"]
        assert not tab.context.service_workers
        await wait_until(lambda: tab.context.pages == [tab.page], "every popup is closed")
        async with asyncio.timeout(ANSWERS_S):
            assert None not in [await download.failure() for download in downloads]
        assert tab.page.url.startswith(f"{browser.settings.site}/search/")
    assert snare.caught == []
    assert {host for host in await _connects(site) if "pin" not in host} <= connects.keys()


async def test_the_trap_catches_a_browser_that_is_not_held_back(
    site: RunningSite, snare: Trap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same page with the guards off: what the test above sees nothing of is really tried."""
    monkeypatch.setattr("services.crawler.launch.egress", lambda settings: ([], None))
    monkeypatch.setattr("services.crawler.launch._FLAGS", ())
    async with Browser(told(site)) as browser, browser.lease() as tab:
        await tab.context.unroute_all()
        await visit(tab, snare)

        def caught() -> str:
            return b" ".join(snare.caught).decode("latin-1")

        for way in WAYS:
            await wait_until(lambda way=way: f"/{way}" in caught(), f"{way} is caught")  # type: ignore[misc]
        await wait_until(lambda: "udp" in caught(), "WebRTC is caught")


async def test_a_hostile_page_costs_its_own_search_nothing(site: RunningSite, snare: Trap) -> None:
    query = f"glaze pins:60 hostile:{snare.port}"
    async with Browser(told(site, crawl_strategy="page")) as browser:
        assert_all_found(await Crawl().run(browser, query), query)
    assert snare.caught == []


@pytest.mark.parametrize("way", ["lead_302", "lead_meta", "lead_script"])
async def test_a_page_that_leads_to_another_host_ends_as_unreachable(site: RunningSite, snare: Trap, way: str) -> None:
    query = f"glaze pins:60 hostile:{snare.port} fault:{way} at:page times:always"
    async with Browser(told(site, crawl_strategy="page")) as browser, asyncio.timeout(120):
        got = await Crawl().run(browser, query)
    assert got.failed is not None
    assert got.failed.reason in (Reason.UNREACHABLE, Reason.UPSTREAM_CHANGED)
    assert snare.caught == []


async def test_files_of_the_machine_are_not_opened(site: RunningSite) -> None:
    async with Browser(told(site)) as browser, browser.lease() as tab:
        await tab.land()
        tab.rendering = True
        with pytest.raises(Error):
            await tab.page.goto("file:///etc/hostname")


@pytest.mark.parametrize(
    ("site_url", "media", "inside", "outside"),
    [
        (
            "https://www.pinterest.com",
            ("pinimg.com",),
            [
                "https://pinterest.com/",
                "https://de.pinterest.com/x",
                "https://v1.pinimg.com/",
                "wss://www.pinterest.com/",
            ],
            ["https://pinterest.com.trap.example/", "https://notpinterest.com/", "file:///etc/hostname", "https://[/"],
        ),
        (
            "http://127.0.0.1:8800",
            ("127.0.0.1:8801", "127.0.0.1"),
            ["http://127.0.0.1:8800/", "ws://127.0.0.1:8801/", "http://127.0.0.1/", "https://127.0.0.1/"],
            ["http://127.0.0.1:8802/", "http://localhost:8800/", "http://[::1]:8800/", "http://2130706433:8802/"],
        ),
        ("http://[::1]:8800", (), ["http://[::1]:8800/"], ["http://[::1]:8801/", "http://[::1]/"]),
        ("http://site:8800", (), ["http://site:8800/"], ["http://site/", "http://www.site.trap:8800/"]),
    ],
)
def test_a_port_that_is_named_is_the_only_one(
    site_url: str, media: tuple[str, ...], inside: list[str], outside: list[str]
) -> None:
    allowed = Allowed.by(CrawlerSettings(site_url=site_url, media_hosts=media))
    assert [url for url in [*inside, *outside] if allowed.has(url)] == inside


def test_the_resolver_is_told_of_the_port_too() -> None:
    [rules], _ = egress(CrawlerSettings(site_url="http://127.0.0.1:8800", media_hosts=("pinimg.com",)))
    wanted = "MAP 127.0.0.1:8800 127.0.0.1:8800, EXCLUDE pinimg.com, EXCLUDE *.pinimg.com, MAP * ~NOTFOUND"
    assert rules == f"--host-resolver-rules={wanted}"


async def _connects(site: RunningSite) -> dict[str, int]:
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"{site.origin}/_stand_in/connects")
        found: dict[str, int] = answer.json()
        return found
