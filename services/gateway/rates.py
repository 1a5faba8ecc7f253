"""How fast callers ask, over all gateways: a bucket of requests each, kept as one moment in a record (`pace.py`)."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from functools import partial
from hashlib import blake2b

import structlog
from msgspec.structs import replace

from libs.common import subjects
from libs.common.bus import Bus
from libs.common.errors import PinstreamError
from libs.common.lane import Clock, Shared
from libs.common.messages import Pace
from libs.common.pace import Rate

PATIENCE_S = 1.0  # the broker is away: what is asked will fail by itself, or can be had without it
KNOWN_MOST = 10_000

log = structlog.get_logger()


def take(rate: Rate, pace: Pace, now: float) -> tuple[Pace, float]:
    """One request, or in how many seconds there may be one."""
    interval = 1 / rate.per_second
    wait_s = pace.full_at - (rate.burst - 1) * interval - now
    if wait_s > 0:
        return pace, wait_s
    return replace(pace, full_at=max(pace.full_at, now) + interval), 0.0


class Allowance:
    """What one connection may send; of this process alone."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._pace = Pace()

    def take(self) -> float:
        """As `take`, now."""
        self._pace, wait_s = take(self.rate, self._pace, time.monotonic())
        return wait_s


class _Caller:
    def __init__(self, bus: Bus, clock: Clock, name: str) -> None:
        subject = subjects.rate(blake2b(name.encode(), digest_size=16).hexdigest())
        self.store = Shared(bus, name, stream=subjects.LIMITS, subject=subject, clock=clock, new=True)
        self.turn = asyncio.Lock()
        self.not_before = 0.0  # who has asked too much is not looked up again until then


class Rates:
    """What callers may ask; an outage of the broker refuses nobody."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._clock = Clock(bus, subjects.LIMITS)
        self._callers: OrderedDict[str, _Caller] = OrderedDict()

    async def take(self, name: str, rate: Rate) -> float:
        """0 where the caller of that name may ask now, else in how many seconds it may."""
        caller = self._callers.get(name) or _Caller(self.bus, self._clock, name)
        self._callers[name] = caller
        self._callers.move_to_end(name)
        if len(self._callers) > KNOWN_MOST:
            self._callers.popitem(last=False)
        if (left_s := caller.not_before - time.monotonic()) > 0:
            return left_s
        try:
            async with asyncio.timeout(PATIENCE_S), caller.turn:
                wait_s = await caller.store.update(partial(take, rate))
        except (TimeoutError, PinstreamError) as error:
            log.warning("how fast a caller asks cannot be agreed on now", error=str(error) or "no answer")
            return 0.0
        if wait_s > 0:
            caller.not_before = time.monotonic() + wait_s
        return wait_s
