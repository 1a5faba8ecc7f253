"""What the crawler is told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from libs.common.settings import UpstreamSettings


class CrawlerSettings(UpstreamSettings, frozen=True, kw_only=True):
    """The crawler's settings."""

    crawl_strategy: Annotated[
        Literal["auto", "feed", "page"],
        Meta(description="how to read: the site's feed, its page by scrolling, or the feed and then the page"),
    ] = "auto"
    requests_per_second: Annotated[
        float,
        Meta(
            gt=0,
            le=100,
            description="most requests a second to the site's pages and resources, of all crawlers together",
        ),
    ] = 3.0
    sessions: Annotated[int, Meta(ge=1, le=200, description="searches crawled at once")] = 50
    page_sessions: Annotated[
        int, Meta(ge=1, le=50, description="those of them that may read by the page, which takes some 100 MB each")
    ] = 3
    feed_contexts: Annotated[
        int, Meta(ge=1, le=50, description="browser contexts for reading feeds; more searches than these share them")
    ] = 5
    warm_contexts: Annotated[
        int, Meta(ge=0, le=20, description="browser contexts kept ready at the site, for a fast first video")
    ] = 1
    browser_executable: Annotated[
        str | None, Meta(description="Chromium to run; unset: Playwright's own, or the first on PATH")
    ] = None
    browser_sandbox: Annotated[
        Literal["auto", "required", "off"],
        Meta(description="Chromium's sandbox; auto: on unless run by root or refused by the kernel"),
    ] = "auto"
    browser_max_age_s: Annotated[
        float, Meta(ge=0, description="age of a Chromium at which another takes its place; 0: never")
    ] = 3600.0
    browser_max_sessions: Annotated[
        int, Meta(ge=0, description="searches that one Chromium serves before another takes its place; 0: no limit")
    ] = 200
    browser_max_mb: Annotated[
        int,
        Meta(ge=0, description="memory of a Chromium with its driver, beyond which another takes its place; 0: any"),
    ] = 1000
    traced_share: Annotated[
        float, Meta(ge=0, le=1, description="share of items whose way is traced, besides a session's first")
    ] = 0.02

    canary_interval_s: Annotated[
        float, Meta(ge=0, description="how often a small search looks whether the site is as it was; 0: never")
    ] = 0.0
    canary_query: Annotated[
        str, Meta(min_length=1, max_length=500, description="what that searches for: a topic with many videos")
    ] = "ceramic glaze"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.browser_executable and not Path(self.browser_executable).is_file():
            raise ValueError(f"BROWSER_EXECUTABLE: {self.browser_executable!r} is not a file")

    @property
    def site(self) -> str:
        """The site's origin, without a slash at its end."""
        return self.site_url.rstrip("/")
