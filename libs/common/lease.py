"""The fence of a crawl: leases under `media.lease.<session>.`, of which the last one alone may emit, and the end.

Each record is written on the condition that the one read before is still the last, and every item on the condition that
its lease is. With several replicas the broker lets one such condition on the same subjects be under way at a time, so
that no item can slip in behind a newer lease or the end.
"""

from __future__ import annotations

import asyncio

from libs.common import subjects
from libs.common.bus import LAG_S, Bus, Fence, Stored
from libs.common.errors import AlreadyExists, Fenced, MalformedMessage
from libs.common.messages import Lease, decode, encode


async def take(bus: Bus, session: str, attempt: str) -> Fence | None:
    """Takes the lease of `session` for an attempt; None where its crawl has ended."""
    while True:
        last = await _last(bus, session)
        if _is(last, subjects.lease_end(session)):
            return None
        if last is not None and _is(last, subjects.lease(session, attempt)):
            return Fence(subjects.leases_of(session), last.sequence)  # our own, whose acknowledgement was lost
        try:
            sequence = await bus.publish(
                subjects.lease(session, attempt),
                encode(Lease(session=session, attempt=attempt)),
                fence=_after(session, last),
            )
        except Fenced:
            await asyncio.sleep(LAG_S)
            continue
        return Fence(subjects.leases_of(session), sequence)


async def end(bus: Bus, lease: Lease, fence: Fence | None = None) -> int:
    """Writes the end of a crawl, unless it is there; returns its sequence.

    With a `fence`, only an attempt whose lease is the last one may: raises Fenced. Without one it is ended whoever
    works on it.
    """
    session, subject = lease.session, subjects.lease_end(lease.session)
    while True:
        there = await bus.last(subjects.RAW, subject)
        if there is not None:
            if fence is None or _closer(there) == lease.closed_by:
                return there.sequence
            raise Fenced(f"{session} was ended by another")
        try:
            return await bus.publish(subject, encode(lease), fence=fence or _after(session, await _last(bus, session)))
        except (AlreadyExists, Fenced):
            if fence is not None and await bus.last(subjects.RAW, subject) is None:
                raise
        await asyncio.sleep(LAG_S)


async def ended(bus: Bus, session: str) -> Lease | None:
    """The record that ended the crawl of `session`, or None; one that cannot be read says nothing but that."""
    stored = await bus.last(subjects.RAW, subjects.lease_end(session))
    if stored is None:
        return None
    try:
        return decode(stored.body, Lease)
    except MalformedMessage:
        return Lease(session=session, attempt="end")


async def _last(bus: Bus, session: str) -> Stored | None:
    return await bus.last(subjects.RAW, subjects.leases_of(session))


def _after(session: str, last: Stored | None) -> Fence:
    return Fence(subjects.leases_of(session), 0 if last is None else last.sequence)


def _is(stored: Stored | None, subject: str) -> bool:
    return stored is not None and stored.subject == subject


def _closer(stored: Stored) -> str | None:
    try:
        return decode(stored.body, Lease).closed_by
    except MalformedMessage:
        return None
