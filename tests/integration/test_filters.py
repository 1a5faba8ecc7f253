"""Filters, from the raw media to the outcome, against a real broker and a real CDN's answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from starlette.requests import Request
from starlette.responses import Response

from libs.common import subjects
from libs.common.cancelled import Cancelled
from libs.common.delivery import Delivery
from libs.common.messages import (
    DirectMedia,
    Filters,
    Kind,
    Pin,
    ProgressRecord,
    RawMedia,
    Reason,
    RequestRecord,
    SearchRequest,
    UnavailableRecord,
    Variant,
    Video,
    VideoRecord,
    decode,
    encode,
)
from libs.common.session_log import SessionLog
from services.crawler.crawl import Crawls, Report
from services.crawler.page_read import PageRead
from services.dedup.outcome import Outcomes
from services.gateway.sessions import Sessions
from services.transformer.resolver import Resolver
from tests.fake_pinterest.playlists import MEDIA
from tests.integration.transformer_cdn import Cdn, path, raw, running_cdn
from tests.wait import wait_for, wait_until

LONG = Filters(min_duration_s=10, min_height=720)
MC = "https://v1.pinimg.com/videos/mc/hls/a3/ca/57/a3ca576ed936dbb3843c6e24c8ca830b.m3u8"


def media(session: str, number: int, duration_ms: int | None) -> RawMedia:
    variant = Variant(key="V_HLSV4", url=MC, width=1080, height=1920)
    return RawMedia(
        session=session,
        item=f"{number}-0",
        signature=f"{number:032x}",
        pin=Pin(id=str(number)),
        variants=[variant],
        duration_ms=duration_ms,
    )


def pages_of(*pages: list[int | None]) -> Callable[[SearchRequest, Report], AsyncGenerator[PageRead, None]]:
    """A site whose videos have these durations."""

    async def read(request: SearchRequest, report: Report) -> AsyncGenerator[PageRead, None]:
        first = 0
        for number, durations in enumerate(pages, start=1):
            found = [media(request.session, first + n, one) for n, one in enumerate(durations)]
            first += len(durations)
            yield PageRead(number=number, way="feed", media=found)

    return read


async def begin(log: SessionLog, session: str, limit: int, filters: Filters | None = LONG) -> Delivery:
    request = SearchRequest(session=session, query="q", result_limit=limit, requested_at=0.0, filters=filters)
    await log.create(session, subjects.REQUEST, RequestRecord(request=request))
    _, now = await log.bus.subjects_under(subjects.RAW, subjects.raw_of(session))
    return Delivery(subjects.search(session), encode(request), {}, 1, 1, 1, now, "")


async def emitted(log: SessionLog, session: str) -> set[str]:
    return (await log.bus.subjects_under(subjects.RAW, subjects.raw_of(session)))[0]


@asynccontextmanager
async def settling(log: SessionLog, session: str, height: Callable[[int], int | None]) -> AsyncIterator[None]:
    """Resolves each item to a file of the height that `height` says of its number, and gives it its outcome."""
    outcomes, settled = Outcomes(log, Cancelled()), set[str]()

    async def run() -> None:
        while True:
            for subject in sorted(await emitted(log, session) - settled):
                stored = await log.bus.last(subjects.RAW, subject)
                assert stored is not None
                raw = decode(stored.body, RawMedia)
                assert raw.measure
                found = Video(
                    id=raw.signature,
                    url="u",
                    kind=Kind.MP4,
                    verified=True,
                    height=height(int(raw.pin.id or 0)),
                    duration_ms=raw.duration_ms or 60_000,
                    pin=raw.pin,
                )
                await outcomes.settle(DirectMedia(session=session, item=raw.item, video=found))
                settled.add(subject)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("limit", [1, 7, 20])
async def test_a_limit_counts_only_what_the_filters_ask_for(log: SessionLog, session: str, limit: int) -> None:
    page: list[int | None] = [5_000, 20_000, None, 9_999]  # half of them are known to be too short
    delivery = await begin(log, session, limit)
    async with settling(log, session, lambda n: 1280 if n % 3 else 640):
        await Crawls(log, Cancelled(), pages_of(*[page] * 40), 0.0).handle(delivery)
        await wait_for(lambda: _complete(log, session), "the session is complete")
    state = await log.state(session)
    assert (state.videos, state.reason, state.unavailable, state.repeats) == (limit, Reason.LIMIT, 0, 0)
    given = [record.message for record in [r async for r in log.read(session)]]
    low = [one for one in given if isinstance(one, UnavailableRecord)]
    videos = [one.video for one in given if isinstance(one, VideoRecord)]
    assert all((video.height or 0) >= 720 and (video.duration_ms or 0) >= 10_000 for video in videos)
    assert limit == 1 or low
    assert {one.reason for one in low} <= {"filtered: min_height"}
    assert all(one.filtered for one in low)
    assert state.filtered == len(low) + state.passed_over
    assert state.passed_over >= limit - 1


async def _complete(log: SessionLog, session: str) -> bool:
    return (await log.state(session)).complete


async def test_a_search_in_which_nothing_passes_ends_at_the_sites_end_and_says_how_many_it_passed_over(
    log: SessionLog, session: str
) -> None:
    delivery = await begin(log, session, 50)
    page: list[int | None] = [1_000] * 25
    seen: list[int] = []

    async def listen() -> None:
        async for record in log.follow(session):
            if isinstance(record.message, ProgressRecord):
                seen.append(record.message.filtered)

    listening = asyncio.create_task(listen())
    await Crawls(log, Cancelled(), pages_of(*[page] * 6), 0.0).handle(delivery)
    state = await log.state(session)
    assert state.complete
    assert (state.reason, state.videos, state.filtered) == (Reason.EXHAUSTED, 0, 150)
    assert await emitted(log, session) == set()
    await wait_until(lambda: seen and seen[-1] == 150, "the last page was told of")
    listening.cancel()
    assert seen == sorted(seen)
    following = Sessions(log, 600.0).follow(session)
    frames = [step.frame async for step in following.steps()]
    assert frames[-1].summary.filtered == 150  # type: ignore[union-attr]


async def test_a_cancel_keeps_the_count_of_what_was_passed_over(log: SessionLog, session: str) -> None:
    await begin(log, session, 50)
    await log.put(session, subjects.PROGRESS, ProgressRecord(state="crawling", filtered=25))
    await Sessions(log, 600.0).cancel(session)
    assert (await log.state(session)).filtered == 25


async def test_an_item_of_which_a_later_page_tells_more_is_emitted_after_all(log: SessionLog, session: str) -> None:
    async def read(request: SearchRequest, report: Report) -> AsyncGenerator[PageRead, None]:
        yield PageRead(number=1, way="page", media=[media(session, 1, 1_000)])
        yield PageRead(number=2, way="page", media=[media(session, 1, 30_000)])

    await Crawls(log, Cancelled(), read, 0.0).handle(await begin(log, session, 50))
    state = await log.state(session)
    assert state.crawled is not None
    assert (state.crawled.items, state.crawled.filtered) == (1, 0)


async def test_without_filters_nothing_is_passed_over_and_nothing_measured(log: SessionLog, session: str) -> None:
    await Crawls(log, Cancelled(), pages_of([1, None]), 0.0).handle(await begin(log, session, 50, None))
    for subject in await emitted(log, session):
        stored = await log.bus.last(subjects.RAW, subject)
        assert stored is not None
        assert not decode(stored.body, RawMedia).measure
    assert len(await emitted(log, session)) == 2


@pytest.fixture
async def cdn() -> AsyncIterator[Cdn]:
    async with running_cdn() as cdn:
        yield cdn


async def test_a_file_whose_size_the_site_does_not_tell_is_measured_where_that_is_asked_for(cdn: Cdn) -> None:
    tier = path("mc", "expMp4", "_t2.mp4")
    body = (MEDIA / "clip_486x864.mp4").read_bytes()

    async def answer(request: Request) -> Response:
        wanted = request.headers.get("range")
        if not wanted:
            return Response(body, media_type="video/mp4")
        first, last = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
        headers = {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
        return Response(body[first : last + 1], 206, headers, "video/mp4")

    cdn.answers[tier] = answer
    plain = raw(cdn.url("mc", "hls", ".m3u8"))
    asking = RawMedia(**{name: getattr(plain, name) for name in plain.__struct_fields__} | {"measure": True})
    async with Resolver(cdn.settings()) as resolver:
        first = (await resolver.resolve(plain)).video
        asked = len(cdn.asked)
        measured = [(await resolver.resolve(asking)).video for _ in range(3)]
    assert first is not None
    assert (first.width, first.duration_ms) == (None, None)
    for video in measured:
        assert video is not None
        assert (video.width, video.height, video.duration_ms) == (486, 864, 3_000)
    assert cdn.asked[asked:] == [f"GET {tier}"]
