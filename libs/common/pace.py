"""The pace of requests to a site: a token bucket, the site's own wish to be left alone, and a circuit. Pure.

The bucket is kept as the one moment at which it is full again (the generic cell rate algorithm), so that all of it is
one small record, which several processes may share (`lane.py`). Times are seconds, all by one clock.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from libs.common.messages import Pace, Reason

OPEN_FROM_REFUSALS = 6  # in a row, without an answer between them,
OPEN_FROM_SESSIONS = 3  # of so many sessions: one that asks for what the site does not give is not the site's refusal
OPEN_FIRST_S, OPEN_MOST_S = 5.0, 300.0  # how long the circuit stays open: twice as long each time that a probe fails
PROBE_S = 20.0  # after so long without a word a probe has failed, and another may go
PROBE_POLL_S = 1.0  # how often those who wait for a probe look for what came of it
HOLD_MOST_S = 3600.0  # who asks for more is asked again after this


class Rate(NamedTuple):
    """`per_second` requests over time, of which `burst` may go at once after a pause."""

    per_second: float
    burst: int


class Turn(NamedTuple):
    """A request may go `wait_s` seconds from now."""

    wait_s: float


class Held(NamedTuple):
    """No request may go now, because of `reason`; ask again in `wait_s` seconds. `probing`: one is on its way."""

    reason: Reason
    wait_s: float
    probing: bool = False


def take(pace: Pace, now: float, rate: Rate, *, probe: bool = True) -> tuple[Pace, Turn | Held]:
    """The next turn, or why there is none. The first that comes when the circuit was open long enough is the probe.

    Of a request that is no `probe` nobody will say what came of it; it may go while none is under way.
    """
    if now < pace.held_until:
        return pace, Held(Reason.RATE_LIMITED, pace.held_until - now)
    if pace.opened:
        reason = pace.reason or Reason.UNREACHABLE
        if now < pace.open_until:
            return pace, Held(reason, pace.open_until - now)
        if now < pace.probe_until:
            return pace, Held(reason, min(pace.probe_until - now, PROBE_POLL_S), probing=True)
        if probe:
            pace = replace(pace, probe_until=now + PROBE_S)
    interval = 1 / rate.per_second
    at = max(now, pace.full_at - (rate.burst - 1) * interval)
    return replace(pace, full_at=max(pace.full_at, now) + interval), Turn(at - now)


def hold(pace: Pace, now: float, wait_s: float) -> Pace:
    """The site has asked for no request within `wait_s`."""
    return replace(pace, held_until=max(pace.held_until, now + min(wait_s, HOLD_MOST_S)))


def refused(pace: Pace, now: float, session: str, reason: Reason) -> Pace:
    """The site has refused a request of `session`."""
    if pace.opened:
        if now < pace.open_until or not pace.probe_until:
            return pace  # one that was on its way before
        longest = min(OPEN_FIRST_S * 2**pace.opened, OPEN_MOST_S)
        return replace(pace, reason=reason, open_until=now + longest, opened=pace.opened + 1, probe_until=0.0)
    sessions = pace.refused if session in pace.refused else (*pace.refused, session)[-OPEN_FROM_SESSIONS:]
    pace = replace(pace, refusals=pace.refusals + 1, refused=sessions, reason=reason)
    if pace.refusals < OPEN_FROM_REFUSALS or len(sessions) < OPEN_FROM_SESSIONS:
        return pace
    return replace(pace, open_until=now + OPEN_FIRST_S, opened=1)


def answered(pace: Pace) -> Pace:
    """The site has answered a request: what was before is forgotten, and the circuit is closed."""
    if not pace.refusals and not pace.opened:
        return pace
    return Pace(full_at=pace.full_at, held_until=pace.held_until)
