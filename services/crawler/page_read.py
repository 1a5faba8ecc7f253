"""One page of results that was read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from opentelemetry import trace

from libs.common import metrics
from libs.common.messages import RawMedia
from libs.common.telemetry import failing_span
from services.crawler.extract import Extraction

_tracer = trace.get_tracer("services.crawler")


class PageRead(msgspec.Struct, frozen=True, kw_only=True):
    """The media of one page, in reading order; `number` counts pages from 1, `way` is `feed` or `page`.

    `unknown` says what on the page was not understood; an item may come again in a later page, named the same.
    `message` is a sentence for the client, where the crawl ends with this page.
    """

    number: int
    way: str
    media: list[RawMedia]
    pins: int = 0
    unknown: list[str] = []
    message: str | None = None


@contextmanager
def page_span(way: str, number: int) -> Iterator[trace.Span]:
    """The span of one page read; an error is recorded on it."""
    with failing_span(_tracer, "read page", attributes={"way": way, "number": number}) as span:
        yield span


def page_read(way: str, number: int, extraction: Extraction, span: trace.Span, unknown: list[str]) -> PageRead:
    """What came of it, with the span's last words."""
    span.set_attribute("media", len(extraction.media))
    span.set_attribute("pins", extraction.pins)
    strange = [*unknown, *extraction.unknown]
    metrics.crawler_pages.add(1, {"way": way})
    if strange:
        metrics.unknown_answers.add(1, {"what": "fields"})
    return PageRead(number=number, way=way, media=extraction.media, pins=extraction.pins, unknown=strange)
