"""The pace of requests to the site: one lane per process, and patience with refusals."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from aiolimiter import AsyncLimiter

from libs.common.messages import Reason
from services.crawler.failure import Refused

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
    """The lane: at most so many requests a second, and none while the site has asked to wait."""

    def __init__(self, requests_per_second: float) -> None:
        self._limiter = AsyncLimiter(BURST, BURST / requests_per_second)
        self._held_until = 0.0

    async def turn(self) -> None:
        """Waits for this request's turn."""
        await self._limiter.acquire()
        await asyncio.sleep(max(self._held_until - time.monotonic(), 0.0))

    def hold(self, wait_s: float) -> None:
        """Lets nothing pass for so long."""
        self._held_until = max(self._held_until, time.monotonic() + wait_s)


class Patience:
    """Waits out refusals that pass, and tells the client what is waited for."""

    def __init__(self, pacer: Pacer, report: Report) -> None:
        self._pacer = pacer
        self._report = report
        self._failures = 0
        self._since = 0.0

    def fresh(self) -> Patience:
        """One for a request beside others, whose failures are its own."""
        return Patience(self._pacer, self._report)

    async def of(self, call: Callable[[], Awaitable[T]]) -> T:
        """What `call` gives, tried again while it is refused for the moment. Raises the last Refused."""
        while True:
            try:
                result = await call()
            except Refused as refusal:
                await self.wait(refusal)
            else:
                self.answered()
                return result

    def answered(self) -> None:
        """The site answered: what was before is forgotten."""
        self._failures = 0

    async def wait(self, refusal: Refused) -> None:
        """Waits before another try. Raises `refusal` where there shall be none."""
        if not refusal.transient:
            raise refusal
        now = time.monotonic()
        self._since = self._since if self._failures else now - refusal.took_s
        self._failures += 1
        wait_s = self._delay_s(refusal)
        if self._failures >= ATTEMPTS or now - self._since + wait_s + refusal.took_s > RETRY_BUDGET_S:
            raise refusal
        log.info("waiting for the site", why=refusal.message, wait_s=round(wait_s, 3), failures=self._failures)
        await self._report("waiting", str(refusal.reason), time.time() + wait_s)
        if refusal.reason is Reason.RATE_LIMITED:
            self._pacer.hold(wait_s)
        await asyncio.sleep(wait_s)
        await self._report("crawling", None, None)

    def _delay_s(self, refusal: Refused) -> float:
        first = RATE_LIMIT_DELAY_S if refusal.reason is Reason.RATE_LIMITED else FIRST_DELAY_S
        longest: float = min(first * 2 ** (self._failures - 1), LONGEST_DELAY_S)
        if refusal.retry_after_s is not None and (refusal.retry_after_s > 0 or self._failures == 1):
            return refusal.retry_after_s
        return longest * random.uniform(0.5, 1.0)
