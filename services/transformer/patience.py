"""How a host is borne with: what is learned of it, how often it is asked again, and when it counts as silent."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import httpx2
import stamina

from libs.common.errors import PinstreamError

LONGEST_RETRY_AFTER_S = 3.0  # beyond that the host counts as not answering
FAILING_AFTER = 12  # requests in a row that a host left unanswered; until it answers, no time-out is borne twice

T = TypeVar("T")


class Unanswered(PinstreamError):
    """The CDN did not say whether a rendition exists: a time-out, a reset, 5xx or 429.

    `failing`: its host has answered nobody for a while.
    """

    def __init__(self, message: str, retry_after_s: float | None = None, failing: bool = False) -> None:
        super().__init__(message)
        self.failing = failing
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class Host:
    slots: asyncio.Semaphore
    head: bool | None = None  # whether HEAD can be trusted; None: not known yet
    head_faults: int = 0
    gave: str | None = None  # the last file that it was seen to have
    unanswered: int = 0  # requests in a row

    @property
    def failing(self) -> bool:
        return self.unanswered >= FAILING_AFTER


async def patiently(host: Host, attempts: int, ask: Callable[[int], Awaitable[T]]) -> T:
    """The answer of `ask`, which is told the number of the attempt, from 1. Raises Unanswered when all are used up."""
    try:
        async for attempt in stamina.retry_context(
            on=_worth_another, attempts=attempts, timeout=None, wait_initial=0.1, wait_max=1.0, wait_jitter=0.1
        ):
            with attempt:
                answer = await _impatiently(host, ask(attempt.num), last=attempt.num > 1)
    except (httpx2.HTTPError, TimeoutError, Unanswered) as error:
        raise Unanswered(repr(error), failing=host.failing) from error
    host.unanswered = 0
    return answer


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
