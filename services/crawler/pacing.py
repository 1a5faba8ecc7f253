"""The pace of requests to the site, and patience with refusals."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from libs.common.bus import Bus
from libs.common.lane import Lane, Shared
from libs.common.messages import Reason
from libs.common.pace import Held, Rate
from services.crawler.failure import Refused
from services.crawler.settings import CrawlerSettings

BURST = 4  # requests that may go at once after a pause, so that a search's first pages do not wait
ATTEMPTS = 6  # for one page; with the delays below about 8 s where the site answers at once
RETRY_BUDGET_S = 60.0  # for one page, what the site asked to wait included
FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 8.0
RATE_LIMIT_DELAY_S = 1.0  # the first, where a 429 names none

T = TypeVar("T")
Report = Callable[[str, str | None, float | None], Awaitable[None]]

log = structlog.get_logger()


class Pacer:
    """What a crawl asks before each request to the site, and tells after.

    The requests of one that is `new`, until the first answer, go before those of others: a first page, and with it the
    first video, does not wait behind the twentieth pages of searches that have been running for long.
    """

    def __init__(self, lane: Lane, *, new: bool = False) -> None:
        self.lane = lane
        self._new = new

    async def turn(self, *, probe: bool = True) -> None:
        """Returns when a request may go. Raises Refused, to be waited out, while none may."""
        if (held := await self.lane.turn(first=self._new, probe=probe)) is not None:
            raise _held(held)

    async def answered(self) -> None:
        """The site answered as it should."""
        self._new = False
        await self.lane.answered()

    async def refused(self, session: str, refusal: Refused, wait_s: float) -> None:
        """The site refused a request of `session`, which waits so long: a limit of its rate holds for all."""
        if refusal.reason is Reason.RATE_LIMITED:
            await self.lane.hold(wait_s)
        if refusal.reason is not Reason.UPSTREAM_CHANGED:
            await self.lane.refused(session, refusal.reason)


def own_lane(settings: CrawlerSettings) -> Lane:
    """The lane of this process alone."""
    return Lane(Rate(settings.requests_per_second, BURST))


def shared_lane(bus: Bus, settings: CrawlerSettings) -> Lane:
    """The lane of all processes that crawl the site."""
    return Lane(Rate(settings.requests_per_second, BURST), Shared(bus, settings.site))


def _held(held: Held) -> Refused:
    if held.probing:
        why = "The site has refused all requests lately; another session is trying whether it answers again."
    elif held.reason is Reason.RATE_LIMITED:
        why = f"The site limits the rate of requests; it asked for none within {held.wait_s:.0f} s."
    else:
        why = f"The site has refused all requests lately; it is asked again in {held.wait_s:.0f} s."
    return Refused(held.reason, why, transient=True, retry_after_s=held.wait_s, held=True)


class Patience:
    """Waits out refusals that pass, and tells the client what is waited for.

    What holds up all sessions does not count as an attempt, but it uses up the time. Where that ends a crawl, its own
    last refusal is told, if it had one.
    """

    def __init__(self, pacer: Pacer, report: Report, session: str = "") -> None:
        self._pacer = pacer
        self._report = report
        self._session = session
        self._failures = 0
        self._since: float | None = None
        self._own: Refused | None = None

    def fresh(self) -> Patience:
        """One for a request beside others, whose failures are its own."""
        return Patience(self._pacer, self._report, self._session)

    async def of(self, call: Callable[[], Awaitable[T]]) -> T:
        """What `call` gives, tried again while it is refused for the moment. Raises the last Refused."""
        while True:
            since = time.perf_counter_ns()
            try:
                result = await call()
            except Refused as refusal:
                if not refusal.held:
                    self._pacer.lane.asked.did(since)
                    self._pacer.lane.asked.failed(refusal)
                await self.wait(refusal)
            else:
                self._pacer.lane.asked.did(since)
                self.answered()
                return result

    def answered(self) -> None:
        """The site answered: what was before is forgotten."""
        self._failures = 0
        self._since = self._own = None

    async def turn(self) -> None:
        """The pacer's turn, waited for."""
        while True:
            try:
                return await self._pacer.turn()
            except Refused as held:
                await self.wait(held)

    async def wait(self, refusal: Refused) -> None:
        """Waits before another try. Raises `refusal` where there shall be none."""
        now = time.monotonic()
        if self._since is None:
            self._since = now - refusal.took_s
        if not refusal.held:
            self._own = refusal
            self._failures += 1
        wait_s = self._delay_s(refusal)
        if not refusal.held:
            await self._pacer.refused(self._session, refusal, wait_s)
        if not refusal.transient:
            raise refusal
        spent = now - self._since + wait_s + refusal.took_s > RETRY_BUDGET_S
        if spent or self._failures >= ATTEMPTS:
            raise self._own or refusal
        log.info("waiting for the site", why=refusal.message, wait_s=round(wait_s, 3), failures=self._failures)
        await self._report("waiting", str(refusal.reason), time.time() + wait_s)
        await asyncio.sleep(wait_s)
        await self._report("crawling", None, None)

    def _delay_s(self, refusal: Refused) -> float:
        first = RATE_LIMIT_DELAY_S if refusal.reason is Reason.RATE_LIMITED else FIRST_DELAY_S
        longest: float = min(first * 2 ** (self._failures - 1), LONGEST_DELAY_S)
        if refusal.retry_after_s is not None and (refusal.retry_after_s > 0 or self._failures == 1):
            return refusal.retry_after_s
        return longest * random.uniform(0.5, 1.0)
