"""Limits: what a caller may ask for, and what is said to one that asks for more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from libs.common.errors import PinstreamError
from libs.common.frames import ErrorCode
from libs.common.pace import Rate
from libs.common.session_log import SessionLog
from services.gateway.callers import Caller
from services.gateway.census import Census, census
from services.gateway.lag import Lag, lag
from services.gateway.limit_settings import LimitSettings
from services.gateway.rates import Rates

COME_BACK_S = 5.0  # a session of somebody's ends about so often
BURST_S = 10.0  # what a rate allows in so long may come at once
MINUTE_S = 60.0


class Limited(PinstreamError):
    """The caller asks for more than it may; `retry_after_s` says when it may again."""

    def __init__(self, code: str, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.code, self.retry_after_s = code, round(retry_after_s, 3)


class Overloaded(Limited):
    """This gateway has too much in hand, whoever asks."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.UNAVAILABLE, "this gateway is overloaded and begins no search now", COME_BACK_S)


def a_minute(requests: float) -> Rate:
    """That many requests a minute."""
    per_second = requests / MINUTE_S
    return Rate(per_second, max(1, round(per_second * BURST_S)))


class Limits:
    """Use `limits`."""

    def __init__(self, settings: LimitSettings, census: Census, rates: Rates, lag: Lag) -> None:
        self.settings = settings
        self.census, self.rates, self.lag = census, rates, lag
        self._beginning: dict[str, Caller] = {}  # here, by session; of some the request is not in the log yet

    async def request(self, caller: Caller) -> None:
        """Counts a request of one that has a name. Raises Limited."""
        if not caller.owner:
            return
        wait_s = await self.rates.take(caller.owner, a_minute(self.settings.requests_per_minute))
        if wait_s > 0:
            raise Limited(ErrorCode.RATE_LIMITED, "this key asks too often", wait_s)

    async def address(self, place: str) -> None:
        """Counts a request of an address. Raises Limited."""
        if not place:
            return
        rate = a_minute(self.settings.requests_per_minute_per_address)
        wait_s = await self.rates.take(f"at:{place}", rate)
        if wait_s > 0:
            raise Limited(ErrorCode.RATE_LIMITED, "too many requests from this address", wait_s)

    @contextmanager
    def place(self, session: str, caller: Caller) -> Iterator[None]:
        """Keeps `caller` a place for a session that it begins meanwhile.

        Raises Overloaded, or Limited where there is none, also for what others begin here at this moment.
        """
        if self.lag.overloaded:
            raise Overloaded
        if session not in self.census:  # else it has its place, as one that is asked for twice at once
            others = {name: one for name, one in self._beginning.items() if name != session and name not in self.census}
            self._check(caller, list(others.values()))
        self._beginning[session] = caller
        try:
            yield
        finally:
            self._beginning.pop(session, None)

    def _check(self, caller: Caller, beginning: Sequence[Caller] = (), before: int | None = None) -> None:
        """Raises Limited by the sessions under way, of those requested before a sequence in the log."""
        told, count = self.settings, self.census.count
        if count(before) + len(beginning) >= told.sessions_most:
            raise _too_many("as many sessions are under way as can be served")
        if caller.owner:
            mine = sum(one.owner == caller.owner for one in beginning)
            if count(before, owner=caller.owner) + mine >= told.sessions_per_key:
                raise _too_many(f"{told.sessions_per_key} sessions of this key are under way")
        elif caller.place:
            mine = sum(one.place == caller.place and not one.owner for one in beginning)
            if count(before, place=caller.place) + mine >= told.sessions_per_address:
                raise _too_many(f"{told.sessions_per_address} sessions from this address are under way")

    async def confirm(self, caller: Caller, sequence: int) -> None:
        """The same of a session whose request is in the log: of those asked for at once at several gateways the first
        in it are within the limit, wherever they are looked at from. Raises BrokerUnavailable where the log cannot be
        counted up to there."""
        await self.census.seen(sequence)
        self._check(caller, before=sequence)


def _too_many(what: str) -> Limited:
    return Limited(ErrorCode.TOO_MANY_SESSIONS, f"{what}; ask again when one has ended", COME_BACK_S)


@asynccontextmanager
async def limits(settings: LimitSettings, session_log: SessionLog) -> AsyncIterator[Limits]:
    """Limits by `settings`, kept up to date meanwhile."""
    async with census(session_log) as counted, lag(settings.loop_lag_most_s) as measured:
        yield Limits(settings, counted, Rates(session_log.bus), measured)
