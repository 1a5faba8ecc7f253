"""Tickets: leave to connect once, within 30 s, for those that cannot set a header, such as a browser's EventSource.

A ticket may stand in an address, for in a log it is worth next to nothing: it has been used. Its record is replaced by
that of its use, on the condition that it is still the one that was read, so that of all gateways one lets it pass.

An EventSource that lost its connection asks the same address again. So a ticket that was used for the events of a
session goes on to open those, and nothing else, for an hour.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import MutableMapping
from hashlib import sha256
from typing import Any

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from libs.common import subjects
from libs.common.bus import Bus, Fence, Stored
from libs.common.errors import BrokerUnavailable, Fenced, MalformedMessage, PublishRefused
from libs.common.frames import ErrorCode
from libs.common.lane import Clock
from libs.common.messages import Ticket, decode, encode
from libs.common.streams import TICKET_S
from services.gateway.callers import Caller, TokenRefused, caller_of
from services.gateway.problems import COME_BACK_S, Problem
from services.gateway.resources import Issued

TICKET = re.compile(r"pst_[A-Za-z0-9_-]{43}")
PATIENCE_S = 5.0
GONE = "this ticket has been used, or is older than 30 s"
_events = re.compile(rf"/v1/sessions/({subjects.TOKEN.pattern})/events")


def _subject(text: str) -> str:
    return subjects.ticket(sha256(text.encode()).hexdigest()[:40])


def events_in(scope: MutableMapping[str, Any]) -> str | None:
    """The session whose events an ASGI connection asks for, if it does."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return None
    found = _events.fullmatch(scope["path"])
    return None if found is None else found[1]


class Tickets:
    """Gives tickets, and takes them back once."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._clock = Clock(bus, subjects.TICKETS)

    async def issue(self, caller: Caller) -> str:
        """A ticket of `caller`. Raises StreamFull or BrokerUnavailable."""
        text = f"pst_{secrets.token_urlsafe(32)}"
        record = Ticket(owner=caller.owner, key=caller.key, until=caller.until)
        await self.bus.publish(_subject(text), encode(record), create=True, patience_s=PATIENCE_S)
        return text

    async def redeem(self, text: str, events_of: str | None = None) -> Caller:
        """The caller that asked for the ticket. Raises TokenRefused where it is none, old or used.

        `events_of`: it is used for the events of that session, and may have been before.
        """
        if not TICKET.fullmatch(text):
            raise TokenRefused
        subject = _subject(text)
        stored, ticket = await self._kept(subject)
        if stored is None or ticket is None:
            raise TokenRefused(GONE)
        if ticket.used_by is None:
            if await self._clock.now() - stored.stored_at > TICKET_S:
                raise TokenRefused(GONE)
            used = replace(ticket, used_by=secrets.token_hex(8), events_of=events_of)
            try:
                fence = Fence(subject, stored.sequence)
                await self.bus.publish(subject, encode(used), fence=fence, patience_s=PATIENCE_S)
                return _caller(used)
            except Fenced:
                _, ticket = await self._kept(subject)
                if ticket == used:  # our own, whose acknowledgement was lost
                    return _caller(used)
        if ticket is None or events_of is None or ticket.events_of != events_of:
            raise TokenRefused(GONE)
        return _caller(ticket)

    async def _kept(self, subject: str) -> tuple[Stored | None, Ticket | None]:
        stored = await self.bus.last(subjects.TICKETS, subject)
        try:
            return stored, None if stored is None else decode(stored.body, Ticket)
        except MalformedMessage:
            return stored, None


def _caller(ticket: Ticket) -> Caller:
    if ticket.until is not None and ticket.until <= time.time():
        raise TokenRefused("the token that this ticket was had with has expired")
    return Caller(owner=ticket.owner, key=ticket.key, until=ticket.until, by_ticket=True)


def ticket_routes(tickets: Tickets) -> list[Route]:
    """`POST /tickets`, under `/v1`."""

    async def issue(request: Request) -> Response:
        caller = caller_of(request.scope)
        if caller.by_ticket:
            return Problem(403, "forbidden", "a ticket buys no other; give the key or the token").answer(request)
        try:
            ticket = await tickets.issue(caller)
        except (BrokerUnavailable, PublishRefused):
            problem = Problem(503, ErrorCode.UNAVAILABLE, "no ticket can be had now", retry_after_s=COME_BACK_S)
            return problem.answer(request)
        body = msgspec.json.encode(Issued(ticket=ticket, expires_in_s=round(TICKET_S)))
        return Response(body, 201, {"Cache-Control": "no-store"}, "application/json")

    return [Route("/tickets", issue, methods=["POST"])]
