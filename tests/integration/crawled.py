"""Crawls of the stand-in site with a real browser, and what is right of them."""

from __future__ import annotations

from typing import Literal

from libs.common.messages import RawMedia, SearchRequest
from services.crawler.browser import Browser
from services.crawler.failure import CrawlFailed
from services.crawler.reading import PageRead, read
from services.crawler.settings import CrawlerSettings
from tests.fake_pinterest.expected import Expected, expected_results
from tests.fake_pinterest.running import RunningSite

Strategy = Literal["auto", "feed", "page"]


def settings(site: RunningSite, strategy: Strategy = "auto", **more: object) -> CrawlerSettings:
    fields = {"requests_per_second": 100.0, "crawl_strategy": strategy, **more}
    return CrawlerSettings(site_url=site.origin, media_hosts=("127.0.0.1",), **fields)  # type: ignore[arg-type]


def request(query: str, url: str | None = None) -> SearchRequest:
    return SearchRequest(session="s" * 32, query=query, result_limit=50, requested_at=0.0, url=url)


class Crawl:
    """What came of one: its pages, media by item, reports and failure."""

    def __init__(self) -> None:
        self.pages: list[PageRead] = []
        self.media: dict[str, RawMedia] = {}
        self.reports: list[tuple[str, str | None, float | None]] = []
        self.failed: CrawlFailed | None = None

    async def report(self, state: str, waiting_for: str | None, waiting_until: float | None) -> None:
        self.reports.append((state, waiting_for, waiting_until))

    async def run(self, browser: Browser, query: str, url: str | None = None) -> Crawl:
        try:
            async for page in read(browser, request(query, url), self.report):
                self.pages.append(page)
                for media in page.media:
                    known = self.media.setdefault(media.item, media)
                    assert known.signature == media.signature
        except CrawlFailed as failed:
            self.failed = failed
        return self

    @property
    def ways(self) -> set[str]:
        return {page.way for page in self.pages}


def assert_all_found(got: Crawl, query: str) -> None:
    assert_found(got, expected_results(query))


def assert_found(got: Crawl, *expected: Expected) -> None:
    items = {item: video for one in expected for video in one.videos for item in video.items}
    assert got.failed is None
    assert got.media.keys() == items.keys()
    for item, media in got.media.items():
        if items[item].kind == "embed":
            assert media.embed_url and not media.variants
        else:
            assert media.signature == items[item].id
            assert media.variants and all(items[item].id in variant.url for variant in media.variants)
