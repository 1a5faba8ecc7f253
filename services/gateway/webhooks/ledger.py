"""How far the posting of a session is, kept with the broker: what one gateway has done another goes on after.

A record is replaced on the condition that it is still the one that was read, and whoever takes a session in hand writes
first: a gateway which stood still meanwhile can write nothing more, and posts nothing that it has not announced before.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from libs.common import subjects
from libs.common.bus import Bus, Fence
from libs.common.errors import Fenced, MalformedMessage
from libs.common.handling import Superseded
from libs.common.messages import Callback, decode, encode

log = structlog.get_logger()


class Kept(NamedTuple):
    """A record, and its sequence; 0 where there is none yet."""

    callback: Callback
    sequence: int


async def kept(bus: Bus, session: str) -> Kept:
    """What is known of `session`."""
    stored = await bus.last(subjects.CALLBACKS, subjects.callback(session))
    if stored is None:
        return Kept(Callback(), 0)
    try:
        return Kept(decode(stored.body, Callback), stored.sequence)
    except MalformedMessage as error:
        log.error("an unreadable record is replaced: all is posted again", session=session, error=str(error))
        return Kept(Callback(), stored.sequence)


async def take(bus: Bus, session: str, before: Kept) -> Kept:
    """Takes the session in hand. Raises Superseded where another has done so meanwhile."""
    return await keep(bus, session, before, replace(before.callback, holder=secrets.token_hex(8)))


async def keep(bus: Bus, session: str, before: Kept, callback: Callback) -> Kept:
    """Writes `callback` after `before`. Raises Superseded where another has written meanwhile."""
    subject, body = subjects.callback(session), encode(callback)
    try:
        return Kept(callback, await bus.publish(subject, body, fence=Fence(subject, before.sequence)))
    except Fenced as error:
        there = await bus.last(subjects.CALLBACKS, subject)
        if there is not None and there.body == body:  # our own, whose acknowledgement was lost
            return Kept(callback, there.sequence)
        raise Superseded(f"another gateway posts the results of {session}") from error
