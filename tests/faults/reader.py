"""Reading the stand-in's search without a browser: the crawler's own knowledge of the site, over plain requests."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx2

from libs.common.messages import SearchRequest
from services.crawler import listing, pinterest
from services.crawler.crawl import Report
from services.crawler.envelope import read_envelope
from services.crawler.extract import extract
from services.crawler.page_read import PageRead


class Reader:
    """`read` is what a crawl reads by."""

    def __init__(self, origin: str) -> None:
        self.origin = origin

    async def read(self, request: SearchRequest, _report: Report) -> AsyncGenerator[PageRead, None]:
        """The pages of a search to the site's end."""
        bookmark: str | None = None
        number = 0
        async with httpx2.AsyncClient(base_url=self.origin, trust_env=False) as site:
            while number == 0 or not pinterest.is_end(bookmark):
                asked = listing.of_search(request.query).asked(bookmark)
                answer = await site.get(asked.path, headers=asked.headers)
                envelope = read_envelope(answer.json())
                found = extract(envelope.results, session=request.session, site=self.origin)
                number, bookmark = number + 1, envelope.bookmark
                yield PageRead(number=number, way="feed", media=found.media, pins=found.pins)
