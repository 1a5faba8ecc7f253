"""A crawl: one attempt at one session, from the request to the record that closes it.

Every item that an attempt emits carries the fence of the attempt's lease, so that a stalled attempt cannot add to a
session that a newer one, or nobody, works on any more. It is closed in three steps whose order matters: the end of the
lease, the count of what the broker accepted over all attempts, and the record of both.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress

import msgspec
import structlog

from libs.common import lease, metrics, site_metrics, subjects
from libs.common.bus import Fence
from libs.common.cancelled import Cancelled
from libs.common.closing import Ending, close
from libs.common.delivery import Delivery
from libs.common.errors import AlreadyExists, Fenced, MalformedMessage, SessionCancelled, StreamFull
from libs.common.handling import Superseded
from libs.common.messages import (
    ProgressRecord,
    RawMedia,
    Reason,
    SearchRequest,
    decode,
    encode,
)
from libs.common.session_log import SessionLog
from libs.common.session_state import SessionState
from libs.common.tasks import end
from libs.common.telemetry import inject, sent, unrecorded
from services.crawler.failure import CrawlFailed
from services.crawler.known import passed_over, to_measure
from services.crawler.page_read import PageRead

WINDOW = 200  # items of a session without an outcome, so that one of thousands does not make one of twenty wait
MAX_ATTEMPTS = 30  # deliveries of one request: many more than restarts of crawlers use up within a session
READ_BATCH = 512
FIRST = 8  # items of a session that go ahead, until half of them have an outcome, for at most
HEAD_START_S = 0.2
ROOM_POLL_S = 1.0

log = structlog.get_logger()

Report = Callable[[str, str | None, float | None], Awaitable[None]]
Read = Callable[[SearchRequest, Report], AsyncGenerator[PageRead, None]]


class Crawls:
    """Handles requests."""

    def __init__(self, session_log: SessionLog, cancelled: Cancelled, read: Read, traced_share: float) -> None:
        self.session_log = session_log
        self.cancelled = cancelled
        self.read = read
        self.traced_share = traced_share
        metrics.at_zero(metrics.sessions_ended, reason=map(str, Reason))
        metrics.at_zero(metrics.crawler_pages, way=("feed", "page"))
        metrics.at_zero(metrics.unknown_answers, what=("fields", "cursor", "refused"))
        metrics.crawler_items.add(0)
        site_metrics.begun("feed", "page")

    async def handle(self, delivery: Delivery) -> None:
        """One delivery of a request: crawls, unless the session is over already."""
        request = decode(delivery.body, SearchRequest)
        structlog.contextvars.bind_contextvars(session=request.session)
        state = await self.session_log.state(request.session)
        if state.crawled is None:
            attempt = Attempt(self, request, state)
            await attempt.run(delivery)

    async def give_up(self, delivery: Delivery, why: str) -> None:
        """Closes the session of a request that cannot be handled."""
        session = delivery.subject.rsplit(".", 1)[-1]
        message = f"the request could not be carried out: {why}"[:300]
        await close(self.session_log, session, Ending(Reason.FAILED, message), closed_by="crawler")


class Attempt:
    """One attempt; `emitted` are the items of all attempts so far."""

    def __init__(self, crawls: Crawls, request: SearchRequest, state: SessionState) -> None:
        self.crawls = crawls
        self.request = request
        self.state = state
        self.session_log = crawls.session_log
        self.emitted: set[str] = set()
        self.fence = Fence("", 0)
        self.pages = 0
        self.way: str | None = None
        self._signatures: dict[str, str] = {}  # by item
        self._passed_over: set[str] = set()  # items that cannot pass the request's filters
        self._passed_over_before = state.passed_over  # by an earlier attempt, which saw much the same
        self._changed = asyncio.Event()
        self._full = False

    async def run(self, delivery: Delivery) -> None:
        """Crawls and closes the session. Raises Superseded where a newer attempt works on it."""
        session, bus = self.request.session, self.session_log.bus
        attempt = secrets.token_hex(8)
        fence = await lease.take(bus, session, attempt)
        if fence is None:
            await self._finish_closing(attempt)
            return
        self.fence = fence
        raw, now = await bus.subjects_under(subjects.RAW, subjects.raw_of(session), at_least=fence.sequence)
        self.emitted = subjects.items_in(raw)
        if self.emitted:
            self._signatures = await self._emitted_signatures()
        left_s = delivery.stored_at + self.request.deadline_s - now
        try:
            if delivery.delivered > MAX_ATTEMPTS:
                ending = Ending(Reason.FAILED, "the crawl failed several times; try again later")
            elif self.state.cancelled:
                ending = Ending(Reason.CANCELLED)
            else:
                ending = await self._until_over(left_s)
            ending = ending._replace(filtered=self.filtered)
            forced = ending.reason in (Reason.CANCELLED, Reason.DEADLINE)  # others may be closing it just now too
            items = await close(self.session_log, session, ending, attempt, None if forced else self.fence)
        except Fenced as error:
            raise Superseded(str(error)) from error
        log.info("crawled", reason=str(ending.reason), items=len(items), pages=self.pages, message=ending.message)

    async def _finish_closing(self, attempt: str) -> None:
        log.info("closing a session whose crawl had ended")
        last = await lease.ended(self.session_log.bus, self.request.session)
        ending = Ending((last and last.reason) or Reason.FAILED, last.message if last else None, self.filtered)
        await close(self.session_log, self.request.session, ending, attempt)

    async def _until_over(self, left_s: float) -> Ending:
        following = asyncio.create_task(self._follow(), name="follow")
        crawling = asyncio.create_task(self._crawl(), name="crawl")
        tasks = {following, crawling}
        try:
            async with self.crawls.cancelled.stopping(self.request.session):
                done, _ = await asyncio.wait(tasks, timeout=max(left_s, 0.0), return_when=asyncio.FIRST_COMPLETED)
        except SessionCancelled:
            return Ending(Reason.CANCELLED)
        finally:
            await end(*tasks)
        if crawling in done:
            return crawling.result()
        if following in done:
            following.result()
        return Ending(Reason.CANCELLED if done else Reason.DEADLINE)

    async def _follow(self) -> None:
        """Keeps `state` up to date; ends when the session is cancelled or closed by another."""
        async with aclosing(self.session_log.follow(self.request.session, self.state.sequence)) as records:
            async for record in records:
                self.state.apply(record)
                self._changed.set()
                if self.state.cancelled or self.state.crawled is not None:
                    return

    async def _crawl(self) -> Ending:
        await self._report("starting")
        message: str | None = None
        try:
            async with aclosing(self.crawls.read(self.request, self._report)) as pages:
                async for page in pages:
                    self.pages, self.way, message = page.number, page.way, page.message
                    media = self._passing(page.media)
                    await self._report("crawling")
                    if await self._emit(media):
                        return Ending(Reason.LIMIT)
        except CrawlFailed as error:
            log.warning("crawl failed", reason=str(error.reason), why=str(error))
            return Ending(error.reason, str(error))
        return Ending(Reason.EXHAUSTED, message)

    @property
    def filtered(self) -> int:
        """How many items were passed over."""
        return max(len(self._passed_over), self._passed_over_before)

    def _passing(self, media: list[RawMedia]) -> list[RawMedia]:
        """Those that may pass the request's filters; the others are counted, and cost nothing more."""
        if self.request.filters is None:
            return media
        passing = []
        measure = to_measure(self.request.filters)
        for one in media:
            if passed_over(self.request.filters, one) is None:
                passing.append(msgspec.structs.replace(one, measure=measure))
                self._passed_over.discard(one.item)  # more was said of it
            elif one.item not in self.emitted:
                self._passed_over.add(one.item)
        return passing

    async def _emit(self, media: list[RawMedia]) -> bool:
        """Emits what has not been emitted yet, as far as the limit lets it; returns whether the limit is reached."""
        todo = [named for one in media if (named := self._named(one)).item not in self.emitted]
        while todo:
            room = await self._room()
            if room == 0:
                return True
            now, todo = todo[:room], todo[room:]
            first = not self.emitted
            self.emitted.update(one.item for one in now)
            for n, one in enumerate(now):  # one by one: three replicas bear one such condition at a time
                await self._until_room(one, traced=(first and n == 0) or self._traced())
                if first and n + 1 == FIRST:
                    await self._first_outcomes()
            self._full = False
        return self.state.videos >= self.request.result_limit

    async def _first_outcomes(self) -> None:
        """Lets the first items pass before the rest of their page takes the processors."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HEAD_START_S):
                while len(self.state.outcomes) < FIRST // 2:
                    self._changed.clear()
                    await self._changed.wait()

    def _named(self, media: RawMedia) -> RawMedia:
        """`media`, under another name where the site has used its name for another video in this crawl."""
        if self._signatures.setdefault(media.item, media.signature) == media.signature:
            return media
        return msgspec.structs.replace(media, item=f"{media.item}-{media.signature[:8]}")

    async def _emitted_signatures(self) -> dict[str, str]:
        """The signatures of what earlier attempts emitted, by item: the site may order a pin's videos anew."""
        bus, session = self.session_log.bus, self.request.session
        found: dict[str, str] = {}
        after = 0
        while batch := await bus.read(subjects.RAW, subjects.raw_of(session), after + 1, READ_BATCH):
            after = batch[-1].sequence
            for stored in batch:
                with suppress(MalformedMessage):  # the transformer gives that item its outcome
                    raw = decode(stored.body, RawMedia)
                    found[raw.item] = raw.signature
        return found

    async def _room(self) -> int:
        """How many items may be emitted now: waits for one at least; 0 means that the limit is reached."""
        limit = self.request.result_limit
        while self.state.videos < limit:
            waiting = len(self.emitted - self.state.outcomes)
            room = min(limit - self.state.videos, WINDOW) - waiting
            if room > 0:
                return room
            self._changed.clear()
            await self._changed.wait()
        return 0

    async def _until_room(self, media: RawMedia, *, traced: bool) -> None:
        """Publishes; while the stream is full it waits, and says so once, instead of crawling all over again."""
        while True:
            try:
                return await self._publish(media, traced=traced)
            except StreamFull as error:
                if not self._full:
                    self._full = True
                    log.warning("no room for raw media", error=str(error))
                    await self._report("waiting", "room in the queue of raw media")
            await asyncio.sleep(ROOM_POLL_S * random.uniform(0.5, 1.0))

    async def _publish(self, media: RawMedia, *, traced: bool) -> None:
        subject, body = subjects.raw(media.session, media.item), encode(media)
        with suppress(AlreadyExists):  # emitted by an earlier attempt
            if traced:
                with sent(subjects.RAW_TEMPLATE, subject, len(body)):
                    await self.session_log.bus.publish(subject, body, headers=inject(), fence=self.fence)
            else:
                headers = inject(context=unrecorded())
                await self.session_log.bus.publish(subject, body, headers=headers, fence=self.fence)
            metrics.crawler_items.add(1)

    def _traced(self) -> bool:
        return random.random() < self.crawls.traced_share

    async def _report(self, state: str, waiting_for: str | None = None, waiting_until: float | None = None) -> None:
        record = ProgressRecord(
            state=state,
            pages=self.pages,
            way=self.way,
            waiting_for=waiting_for,
            waiting_until=waiting_until,
            filtered=self.filtered,
        )
        await self.session_log.put(self.request.session, subjects.PROGRESS, record)
