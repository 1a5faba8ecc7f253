"""Tickets: leave to connect once, within 30 s, for those that cannot set a header, such as a browser's EventSource.

A ticket may stand in an address, for in a log it is worth nothing: it has been used. Its record is replaced by that of
its use, on the condition that it is still the one that was read, so that of all gateways one lets it pass.
"""

from __future__ import annotations

import re
import secrets
from hashlib import sha256

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from libs.common import subjects
from libs.common.bus import Bus, Fence
from libs.common.errors import BrokerUnavailable, Fenced, MalformedMessage, PublishRefused
from libs.common.frames import ErrorCode
from libs.common.messages import Ticket, decode, encode
from libs.common.streams import TICKET_S
from services.gateway.callers import Caller, TokenRefused, caller_of
from services.gateway.problems import COME_BACK_S, Problem
from services.gateway.resources import Issued

TICKET = re.compile(r"pst_[A-Za-z0-9_-]{43}")
PATIENCE_S = 5.0


def _subject(text: str) -> str:
    return subjects.ticket(sha256(text.encode()).hexdigest()[:40])


class Tickets:
    """Gives tickets, and takes them back once."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    async def issue(self, caller: Caller) -> str:
        """A ticket of `caller`. Raises StreamFull or BrokerUnavailable."""
        text = f"pst_{secrets.token_urlsafe(32)}"
        record = Ticket(owner=caller.owner, key=caller.key, until=caller.until)
        await self.bus.publish(_subject(text), encode(record), create=True, patience_s=PATIENCE_S)
        return text

    async def redeem(self, text: str) -> Caller:
        """The caller that asked for the ticket. Raises TokenRefused where it is none, old or used."""
        if not TICKET.fullmatch(text):
            raise TokenRefused
        subject = _subject(text)
        stored = await self.bus.last(subjects.TICKETS, subject)
        try:
            ticket = None if stored is None else decode(stored.body, Ticket)
        except MalformedMessage:
            ticket = None
        if stored is None or ticket is None or ticket.used_by is not None:
            raise TokenRefused("this ticket has been used, or is older than 30 s")
        used = encode(replace(ticket, used_by=secrets.token_hex(8)))
        try:
            fence = Fence(subject, stored.sequence)
            await self.bus.publish(subject, used, fence=fence, patience_s=PATIENCE_S)
        except Fenced:
            there = await self.bus.last(subjects.TICKETS, subject)
            if there is None or there.body != used:  # else our own, whose acknowledgement was lost
                raise TokenRefused("this ticket has been used") from None
        return Caller(owner=ticket.owner, key=ticket.key, until=ticket.until)


def ticket_routes(tickets: Tickets) -> list[Route]:
    """`POST /tickets`, under `/v1`."""

    async def issue(request: Request) -> Response:
        try:
            ticket = await tickets.issue(caller_of(request.scope))
        except (BrokerUnavailable, PublishRefused):
            problem = Problem(503, ErrorCode.UNAVAILABLE, "no ticket can be had now", retry_after_s=COME_BACK_S)
            return problem.answer(request)
        body = msgspec.json.encode(Issued(ticket=ticket, expires_in_s=round(TICKET_S)))
        return Response(body, 201, {"Cache-Control": "no-store"}, "application/json")

    return [Route("/tickets", issue, methods=["POST"])]
