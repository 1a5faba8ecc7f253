"""How late the event loop is: of a gateway with too much in hand everything is late, and then new searches wait."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median

import structlog

from libs.common import metrics
from libs.common.tasks import end

TICK_S = 0.1
TICKS = 30  # what is looked at: three seconds
TICKS_A_STALL = TICKS // 3  # a single one, however long, is no overload: a machine that slept has no less room
RECOVERED = 0.5  # of the most; in between it stays as it was

log = structlog.get_logger()


class Lag:
    """Use `lag`. A tick is due every TICK_S, and counts as late as it was, also where several came due in one stall:
    so each is what something waits that comes in at any moment, and `median_s` what half of all has waited longer than.
    """

    def __init__(self, most_s: float) -> None:
        self.most_s = most_s
        self.overloaded = False
        self._late: deque[float] = deque([0.0] * TICKS, maxlen=TICKS)

    @property
    def median_s(self) -> float:
        """Of the last TICKS, in seconds."""
        return median(self._late)

    def came(self, late_s: float) -> int:
        """A tick came that late; returns how many were due by then."""
        due = 1 + int(late_s / TICK_S)
        self._late.extend(late_s - n * TICK_S for n in reversed(range(min(due, TICKS_A_STALL))))
        self._judge(self.median_s)
        return due

    def _judge(self, median_s: float) -> None:
        metrics.gateway_loop_lag.set(median_s)
        before = self.overloaded
        if self.overloaded:
            self.overloaded = median_s > self.most_s * RECOVERED
        else:
            self.overloaded = 0 < self.most_s < median_s
        if self.overloaded and not before:
            log.warning("overloaded: new searches are refused", loop_lag_s=round(median_s, 3))
        elif before and not self.overloaded:
            log.info("no longer overloaded", loop_lag_s=round(median_s, 3))

    async def run(self) -> None:
        """Until cancelled."""
        due_at = time.monotonic() + TICK_S  # the loop's own clock stands still while it is blocked
        while True:
            await asyncio.sleep(max(0.0, due_at - time.monotonic()))
            due_at += TICK_S * self.came(max(0.0, time.monotonic() - due_at))


@asynccontextmanager
async def lag(most_s: float) -> AsyncIterator[Lag]:
    """The lag of this loop, measured meanwhile; more than `most_s` is overload, 0 for never."""
    found = Lag(most_s)
    task = asyncio.create_task(found.run(), name="lag")
    try:
        yield found
    finally:
        await end(task)
