"""How a host is borne with: what is learned of it, how often it is asked again, and when it counts as silent."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpx2
import stamina

from libs.common.errors import PinstreamError

LONGEST_RETRY_AFTER_S = 3.0  # beyond that the host counts as not answering
LEFT_ALONE_AFTER = 6  # calls in a row that a host left unanswered, all their attempts used up
TRIAL_S = 1.0  # between the requests that then still go to it; the first that it answers ends that
FAILING_AFTER = 12  # requests in a row that a host left unanswered; until it answers, no time-out is borne twice

FIRST_WAIT_S = 0.1  # before the second attempt; doubled before the third

T = TypeVar("T")


class Unanswered(PinstreamError):
    """The CDN did not say whether a rendition exists: a time-out, a reset, 5xx or 429.

    `failing`: its host has answered nobody for a while.
    """

    def __init__(self, message: str, retry_after_s: float | None = None, failing: bool = False) -> None:
        super().__init__(message)
        self.failing = failing
        self.retry_after_s = retry_after_s


def _in_vain(why: str) -> Unanswered:
    """One that is not worth another try now."""
    return Unanswered(f"the host is left alone: {why}", retry_after_s=math.inf, failing=True)


@dataclass(slots=True)
class Host:
    """`slow_s`: where answers take longer on average it cannot serve all, and nobody waits longer for a slot."""

    slots: asyncio.Semaphore
    slow_s: float
    head: bool | None = None  # whether HEAD can be trusted; None: not known yet
    head_faults: int = 0
    gave: str | None = None  # the last file that it was seen to have
    unanswered: int = 0  # requests in a row
    given_up: int = 0  # calls in a row
    took_s: float = 0.0  # by a request, on average
    _trial_at: float = 0.0

    @property
    def failing(self) -> bool:
        return self.unanswered >= FAILING_AFTER

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Room for one request. Raises Unanswered where the host is left alone, or too slow for all that wait.

        So a host that is down holds up neither those who ask it nor those who ask another.
        """
        since = time.monotonic()
        slow = self.took_s > self.slow_s
        try:
            async with asyncio.timeout(self.slow_s if slow else None):
                await self.slots.acquire()
        except TimeoutError as error:
            raise _in_vain("it answers too slowly for all who wait") from error
        try:
            if self.took_s > self.slow_s and time.monotonic() - since > self.slow_s:
                raise _in_vain("it answers too slowly for all who wait")
            self._admit()
            yield
        finally:
            self.slots.release()

    def note_time(self, took_s: float) -> None:
        """How long it took a request to end, in whatever way."""
        self.took_s += (took_s - self.took_s) / 8

    def _admit(self) -> None:
        if self.given_up < LEFT_ALONE_AFTER:
            return
        now = time.monotonic()
        if now < self._trial_at:
            raise _in_vain("it has answered nobody for a while")
        self._trial_at = now + TRIAL_S


async def patiently(host: Host, attempts: int, ask: Callable[[int], Awaitable[T]]) -> T:
    """The answer of `ask`, which is told the number of the attempt, from 1. Raises Unanswered when all are used up."""
    try:
        answer = await _asked(host, attempts, ask)
    except (httpx2.HTTPError, TimeoutError, Unanswered) as error:
        host.given_up += 1
        failing = host.failing or (isinstance(error, Unanswered) and error.failing)
        raise Unanswered(repr(error), failing=failing) from error
    host.unanswered = host.given_up = 0
    return answer


async def _asked(host: Host, attempts: int, ask: Callable[[int], Awaitable[T]]) -> T:
    """The first attempt is by itself, for nearly all need no other, and what others need costs a tenth of a request."""
    try:
        return await _impatiently(host, ask(1), last=False)
    except Exception as error:
        again = _worth_another(error)
        if again is False or attempts < 2:
            raise
    await asyncio.sleep(random.uniform(FIRST_WAIT_S, 2 * FIRST_WAIT_S) if again is True else again)
    async for attempt in stamina.retry_context(
        on=_worth_another,
        attempts=attempts - 1,
        timeout=None,
        wait_initial=2 * FIRST_WAIT_S,
        wait_max=1.0,
        wait_jitter=FIRST_WAIT_S,
    ):
        with attempt:
            return await _impatiently(host, ask(attempt.num + 1), last=True)
    raise AssertionError("a retry ends by what it returns or raises")


async def _impatiently(host: Host, asking: Awaitable[T], last: bool) -> T:
    """A time-out is slow to learn of: there is no third attempt, and no second one at a host that is failing."""
    try:
        return await asking
    except (httpx2.HTTPError, TimeoutError, Unanswered) as error:
        host.unanswered += 1
        if isinstance(error, httpx2.TimeoutException | TimeoutError) and (last or host.failing):
            raise Unanswered(repr(error), retry_after_s=math.inf) from error
        raise


def _worth_another(error: Exception) -> bool | float:
    if not isinstance(error, Unanswered):
        return isinstance(error, httpx2.TransportError | TimeoutError)
    if error.retry_after_s is None:
        return True
    return error.retry_after_s if error.retry_after_s <= LONGEST_RETRY_AFTER_S else False
