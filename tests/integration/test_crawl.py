"""Attempts at a crawl against a real broker; the site's pages are scripted, the outcomes are written as dedup does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress

import pytest

from libs.common import subjects
from libs.common.bus import Fence
from libs.common.cancelled import Cancelled
from libs.common.closing import Ending, close
from libs.common.delivery import Delivery
from libs.common.errors import BrokerUnavailable, Fenced
from libs.common.handling import Superseded
from libs.common.messages import (
    CrawledRecord,
    DirectMedia,
    Kind,
    Lease,
    Pin,
    ProgressRecord,
    RawMedia,
    Reason,
    RequestRecord,
    SearchRequest,
    Video,
    decode,
    encode,
)
from libs.common.session_log import SessionLog
from libs.common.session_state import Record
from services.crawler import crawl
from services.crawler.crawl import FIRST, MAX_ATTEMPTS, Attempt, Crawls, Report
from services.crawler.failure import CrawlFailed
from services.crawler.page_read import PageRead
from services.dedup.outcome import Outcomes
from services.gateway.sessions import Sessions
from tests.wait import wait_until


class Site:
    """Pages of items `(pin, signature)`; reading can be made to stop before a page, or to fail after all."""

    def __init__(self, *pages: Sequence[tuple[str, str]], failure: CrawlFailed | None = None) -> None:
        self.pages, self.failure = pages, failure
        self.gates = [asyncio.Event() for _ in pages]
        for gate in self.gates:
            gate.set()
        self.reading = asyncio.Event()
        self.read_pages = 0
        self.closed = 0

    async def read(self, request: SearchRequest, report: Report) -> AsyncGenerator[PageRead, None]:
        try:
            for number, page in enumerate(self.pages, start=1):
                self.reading.set()
                await self.gates[number - 1].wait()
                self.read_pages = max(self.read_pages, number)
                media = [
                    RawMedia(session=request.session, item=f"{pin}-0", signature=signature, pin=Pin(id=pin))
                    for pin, signature in page
                ]
                yield PageRead(number=number, way="feed", media=media)
            if self.failure is not None:
                raise self.failure
        finally:
            self.closed += 1


class Pipeline:
    """Settles every raw media of a session as transformer and dedup would."""

    def __init__(self, log: SessionLog, session: str) -> None:
        self.outcomes, self.log, self.session = Outcomes(log, Cancelled()), log, session
        self.going = asyncio.Event()
        self.going.set()
        self.settled: set[str] = set()
        self.most_waiting = 0
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await self.going.wait()
            found, _ = await self.log.bus.subjects_under(subjects.RAW, subjects.raw_of(self.session))
            self.most_waiting = max(self.most_waiting, len(found) - len(self.settled))
            for subject in sorted(found - self.settled):
                stored = await self.log.bus.last(subjects.RAW, subject)
                assert stored is not None
                raw = decode(stored.body, RawMedia)
                video = Video(id=raw.signature, url="u", kind=Kind.MP4, verified=True, pin=raw.pin)
                await self.outcomes.settle(DirectMedia(session=raw.session, item=raw.item, video=video))
                self.settled.add(subject)


async def begin(log: SessionLog, session: str, limit: int, deadline_s: float = 60.0) -> Delivery:
    request = SearchRequest(session=session, query="q", result_limit=limit, requested_at=0.0, deadline_s=deadline_s)
    await log.create(session, subjects.REQUEST, RequestRecord(request=request))
    _, now = await log.bus.subjects_under(subjects.RAW, subjects.raw_of(session))
    return Delivery(subjects.search(session), encode(request), {}, 1, 1, 1, now, "")


def pins(first: int, count: int, *, signatures: int | None = None) -> list[tuple[str, str]]:
    many = signatures or 10**9
    return [(str(n), f"{n % many:032x}") for n in range(first, first + count)]


async def crawled(log: SessionLog, session: str) -> CrawledRecord:
    record = await log.get(session, subjects.CRAWLED)
    assert record is not None
    assert isinstance(record.message, CrawledRecord)
    return record.message


async def test_a_crawl_to_the_sites_end_is_closed_with_the_number_of_its_items(log: SessionLog, session: str) -> None:
    site = Site(pins(0, 30), pins(30, 30, signatures=40))
    delivery = await begin(log, session, limit=500)
    pipeline = Pipeline(log, session)
    await Crawls(log, Cancelled(), site.read, 0.1).handle(delivery)
    end = await crawled(log, session)
    assert (end.reason, end.items) == (Reason.EXHAUSTED, 60)
    await wait_until(lambda: len(pipeline.settled) == 60, "all settled")
    state = await log.state(session)
    assert state.complete
    assert (state.videos, state.repeats) == (40, 20)
    pipeline.task.cancel()


@pytest.mark.parametrize("limit", [1, 7, 25, 40])
async def test_a_limit_is_kept_exactly_whatever_repeats(log: SessionLog, session: str, limit: int) -> None:
    site = Site(*(pins(n, 20, signatures=50) for n in range(0, 400, 20)))
    pipeline = Pipeline(log, session)
    await Crawls(log, Cancelled(), site.read, 0.1).handle(await begin(log, session, limit))
    state = await log.state(session)
    assert state.complete
    assert state.crawled is not None
    assert (state.videos, state.crawled.reason) == (limit, Reason.LIMIT)
    assert site.closed == 1
    pipeline.task.cancel()


async def test_no_more_than_the_window_waits_for_its_outcome(log: SessionLog, session: str) -> None:
    site = Site(*(pins(n, 50) for n in range(0, 500, 50)))
    pipeline = Pipeline(log, session)
    pipeline.going.clear()
    task = asyncio.create_task(Crawls(log, Cancelled(), site.read, 0.0).handle(await begin(log, session, 1000)))
    await wait_until(lambda: site.read_pages == 5, "the fifth page was read")
    found, _ = await log.bus.subjects_under(subjects.RAW, subjects.raw_of(session))
    assert len(found) <= 200
    pipeline.going.set()
    await task
    assert pipeline.most_waiting <= 200
    assert (await crawled(log, session)).items == 500
    pipeline.task.cancel()


async def test_the_first_items_go_ahead_of_the_rest_of_their_page(
    log: SessionLog, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crawl, "HEAD_START_S", 0.3)
    site, delivery = Site(pins(0, 30)), await begin(log, session, 50)
    await Crawls(log, Cancelled(), site.read, 0.0).handle(delivery)  # nobody gives outcomes: they are not waited for
    raw = await log.bus.read(subjects.RAW, subjects.raw_of(session), 1, 100)
    stored_at = [stored.stored_at for stored in raw if subjects.items_in({stored.subject})][:30]
    assert stored_at[FIRST] - stored_at[FIRST - 1] > 0.25
    assert len(stored_at) == 30


async def test_the_rest_of_the_page_follows_the_first_outcomes(
    log: SessionLog, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crawl, "HEAD_START_S", 60.0)
    site, delivery, pipeline = Site(pins(0, 30)), await begin(log, session, 50), Pipeline(log, session)
    async with asyncio.timeout(20):
        await Crawls(log, Cancelled(), site.read, 0.0).handle(delivery)
    assert (await crawled(log, session)).items == 30
    pipeline.task.cancel()


async def test_a_second_attempt_emits_what_is_missing_and_the_first_is_fenced(log: SessionLog, session: str) -> None:
    delivery = await begin(log, session, limit=500)
    stalled = Site(pins(0, 10), pins(10, 10))
    stalled.gates[1].clear()
    first = asyncio.create_task(Crawls(log, Cancelled(), stalled.read, 0.0).handle(delivery))
    await wait_until(lambda: stalled.read_pages == 1, "the first page was read")
    await Crawls(log, Cancelled(), Site(pins(0, 10), pins(10, 10)).read, 0.0).handle(delivery._replace(delivered=2))
    end = await crawled(log, session)
    assert (end.reason, end.items) == (Reason.EXHAUSTED, 20)
    stalled.gates[1].set()
    with suppress(Superseded):  # or it has read in the log that the session was closed
        await first
    found, _ = await log.bus.subjects_under(subjects.RAW, subjects.raw_of(session))
    assert len(found) == 20


async def test_an_attempt_that_stalled_past_the_end_can_add_nothing(log: SessionLog, session: str) -> None:
    delivery = await begin(log, session, limit=500)
    request = decode(delivery.body, SearchRequest)
    crawls = Crawls(log, Cancelled(), Site(pins(0, 3)).read, 0.0)
    stale = Attempt(crawls, request, await log.state(session))
    lease = await log.bus.publish(subjects.lease(session, "old"), b"{}", create=True)
    stale.fence = Fence(subjects.leases_of(session), lease)
    await crawls.handle(delivery)
    with pytest.raises(Fenced):
        await stale._publish(RawMedia(session=session, item="99-0", signature="ab", pin=Pin()), traced=False)
    assert (await crawled(log, session)).items == 3


async def test_an_attempt_that_died_between_end_and_record_is_closed_with_its_reason(
    log: SessionLog, session: str
) -> None:
    delivery = await begin(log, session, limit=500)
    end = b'{"session":"%s","attempt":"end","reason":"blocked","message":"refused"}' % session.encode()
    await log.bus.publish(subjects.lease_end(session), end, create=True)
    site = Site(pins(0, 3))
    await Crawls(log, Cancelled(), site.read, 0.0).handle(delivery._replace(delivered=2))
    record = await crawled(log, session)
    assert (record.reason, record.message, record.items) == (Reason.BLOCKED, "refused", 0)
    assert site.read_pages == 0


async def test_a_failure_ends_the_session_with_its_reason_and_all_that_was_found(log: SessionLog, session: str) -> None:
    failure = CrawlFailed(Reason.RATE_LIMITED, "try again in 60 s")
    pipeline = Pipeline(log, session)
    delivery = await begin(log, session, limit=500)
    await Crawls(log, Cancelled(), Site(pins(0, 5), failure=failure).read, 0.0).handle(delivery)
    await wait_until(lambda: len(pipeline.settled) == 5, "all settled")
    state = await log.state(session)
    assert state.complete
    assert state.crawled is not None
    assert (state.crawled.reason, state.crawled.message, state.videos) == (
        Reason.RATE_LIMITED,
        "try again in 60 s",
        5,
    )
    pipeline.task.cancel()


async def test_a_cancel_stops_a_crawl_within_a_second_and_completes_the_session(log: SessionLog, session: str) -> None:
    cancelled = Cancelled()
    await cancelled.listen(log.bus)
    site = Site(pins(0, 10), pins(10, 10))
    site.gates[1].clear()
    crawl = asyncio.create_task(Crawls(log, cancelled, site.read, 0.0).handle(await begin(log, session, limit=500)))
    await wait_until(lambda: site.read_pages == 1, "the first page was read")
    await Sessions(log, 600.0).cancel(session)
    async with asyncio.timeout(1):
        await crawl
    assert site.closed == 1
    state = await log.state(session)
    assert state.complete
    assert state.crawled is not None
    assert state.crawled.reason is Reason.CANCELLED
    for pattern, stream in ((subjects.raw_of(session), subjects.RAW), (subjects.direct_of(session), subjects.DIRECT)):
        assert (await log.bus.subjects_under(stream, pattern))[0] == set()


async def test_a_session_past_its_deadline_is_ended_by_its_crawler(log: SessionLog, session: str) -> None:
    site = Site(pins(0, 10), pins(10, 10))
    site.gates[1].clear()
    await Crawls(log, Cancelled(), site.read, 0.0).handle(await begin(log, session, limit=500, deadline_s=0.5))
    end = await crawled(log, session)
    assert (end.reason, end.items) == (Reason.DEADLINE, 10)


async def test_a_request_that_was_delivered_too_often_is_given_up(log: SessionLog, session: str) -> None:
    delivery = await begin(log, session, limit=500)
    site = Site(pins(0, 10))
    await Crawls(log, Cancelled(), site.read, 0.0).handle(delivery._replace(delivered=MAX_ATTEMPTS + 1))
    assert (await crawled(log, session)).reason is Reason.FAILED
    assert site.read_pages == 0


async def test_a_redelivery_after_the_end_does_nothing(log: SessionLog, session: str) -> None:
    delivery = await begin(log, session, limit=500)
    await Crawls(log, Cancelled(), Site(pins(0, 3)).read, 0.0).handle(delivery)
    site = Site(pins(0, 9))
    await Crawls(log, Cancelled(), site.read, 0.0).handle(delivery._replace(delivered=2))
    assert site.read_pages == 0
    assert (await crawled(log, session)).items == 3


async def test_progress_says_where_the_crawl_is(log: SessionLog, session: str) -> None:
    await Crawls(log, Cancelled(), Site(pins(0, 3), pins(3, 3)).read, 0.0).handle(await begin(log, session, 500))
    record = await log.get(session, subjects.PROGRESS)
    assert record is not None
    assert isinstance(record.message, ProgressRecord)
    assert (record.message.state, record.message.pages, record.message.way) == ("crawling", 2, "feed")


async def test_a_cancel_after_the_crawl_and_before_the_last_outcomes_completes_the_session(
    log: SessionLog, session: str
) -> None:
    delivery = await begin(log, session, limit=500)
    await Crawls(log, Cancelled(), Site(pins(0, 5)).read, 0.0).handle(delivery)
    assert not (await log.state(session)).complete
    await Sessions(log, 600.0).cancel(session)
    state = await log.state(session)
    assert state.complete
    assert state.reason is Reason.CANCELLED


async def test_a_name_that_the_site_uses_for_two_videos_costs_neither(log: SessionLog, session: str) -> None:
    site = Site([("1", "a" * 32), ("2", "b" * 32)], [("1", "c" * 32), ("2", "b" * 32)])
    delivery = await begin(log, session, limit=500)
    await Crawls(log, Cancelled(), site.read, 0.0).handle(delivery)
    found, _ = await log.bus.subjects_under(subjects.RAW, subjects.raw_of(session))
    assert {subjects.item_key(subject).item for subject in found} == {"1-0", "2-0", "1-0-cccccccc"}


async def test_a_crawl_whose_log_cannot_be_followed_is_tried_again_and_not_ended(log: SessionLog, session: str) -> None:
    class Broken(SessionLog):
        async def follow(self, session: str, after: int = 0) -> AsyncGenerator[Record, None]:
            raise BrokerUnavailable("no answer")
            yield

    delivery = await begin(log, session, limit=500)
    site = Site(pins(0, 5))
    site.gates[0].clear()
    with pytest.raises(BrokerUnavailable):
        await Crawls(Broken(log.bus), Cancelled(), site.read, 0.0).handle(delivery)
    assert await log.bus.last(subjects.RAW, subjects.lease_end(session)) is None
    assert not (await log.state(session)).complete


async def test_a_second_attempt_misses_nothing_where_the_site_gives_another_order(
    log: SessionLog, session: str
) -> None:
    delivery = await begin(log, session, limit=500)
    stalled = Site([("1", "a" * 32)], [])
    stalled.gates[1].clear()
    first = asyncio.create_task(Crawls(log, Cancelled(), stalled.read, 0.0).handle(delivery))
    await wait_until(lambda: stalled.read_pages == 1, "the first page was read")
    again = Site([("1", "b" * 32)], [("1", "a" * 32)])
    await Crawls(log, Cancelled(), again.read, 0.0).handle(delivery._replace(delivered=2))
    found, _ = await log.bus.subjects_under(subjects.RAW, subjects.raw_of(session))
    assert {subjects.item_key(subject).item for subject in found} == {"1-0", "1-0-bbbbbbbb"}
    stalled.gates[1].set()
    with suppress(Superseded):
        await first


async def test_an_end_whose_acknowledgement_was_lost_is_known_as_ones_own(log: SessionLog, session: str) -> None:
    lease = await log.bus.publish(subjects.lease(session, "a1"), b"{}", create=True)
    fence = Fence(subjects.leases_of(session), lease)
    stored = encode(Lease(session=session, attempt="end", reason=Reason.LIMIT, closed_by="a1"))
    await log.bus.publish(subjects.lease_end(session), stored, fence=fence)
    assert await close(log, session, Ending(Reason.LIMIT), "a1", fence) == set()
    assert (await crawled(log, session)).reason is Reason.LIMIT
    with pytest.raises(Fenced):
        await close(log, session, Ending(Reason.LIMIT), "a2", fence)
