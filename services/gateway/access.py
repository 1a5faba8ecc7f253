"""Access: which caller a connection's key, token or ticket is of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode

from libs.common.bus import Bus
from libs.common.keys import KEY
from services.gateway.access_settings import AccessSettings
from services.gateway.callers import ANONYMOUS, LOCAL, STRANGER, Caller, TokenRefused
from services.gateway.keyring import Keyring, keyring
from services.gateway.tickets import TICKET, Tickets, events_in
from services.gateway.tokens import Tokens, tokens

BEARER = "pinstream.bearer."  # begins the subprotocol of a client that cannot set a header
PLACEHOLDER = "owner"  # what Firebase's SDKs send to an emulator where they have no credential: it says nothing
NEEDED = "a key is needed: Authorization: Bearer <key>, or a ticket; see docs/access.md"
EXPIRED = "the token has expired"
REVOKED = "the key was revoked, or has expired"
LONGEST_S = 86400.0  # of one timer

Scope = MutableMapping[str, Any]


class Access:
    """Use `access`."""

    def __init__(self, settings: AccessSettings, keyring: Keyring, tickets: Tickets, tokens: Tokens | None) -> None:
        self.settings = settings
        self.keyring, self.tickets, self.tokens = keyring, tickets, tokens

    @property
    def stranger(self) -> Caller:
        """The caller who has given nothing: one that may search, or one that is not admitted."""
        if not self.settings.anonymous_allowed:
            return STRANGER
        return LOCAL if self.settings.here_alone else ANONYMOUS

    async def caller_of_token(self, token: str, events_of: str | None = None) -> Caller:
        """Whose a key, a JWT or a ticket is. Raises TokenRefused or BrokerUnavailable.

        A ticket is used up, but for `events_of`, the session whose events are asked for.
        """
        if TICKET.fullmatch(token):
            caller = await self.tickets.redeem(token, events_of)
            if caller.key is not None and not self.keyring.valid(caller.key):
                raise TokenRefused
            return caller if caller.owner else self.stranger  # what another gateway let in without a key is not in here
        if KEY.fullmatch(token):
            key = self.keyring.key(token)
            if key is None:
                raise TokenRefused
            return Caller(owner=f"key:{key.owner}", key=key.id, until=key.expires_at)
        if self.tokens is None:
            raise TokenRefused
        return await self.tokens.caller(token)

    @contextmanager
    def held(self, caller: Caller, on_over: Callable[[str], None]) -> Iterator[None]:
        """Calls `on_over`, with the reason, once what `caller` came with is no longer good, while the context lasts."""
        timer = None
        if caller.until is not None:
            left_s = min(max(0.0, caller.until - time.time()), LONGEST_S)
            timer = asyncio.get_running_loop().call_later(left_s, on_over, EXPIRED)
        try:
            if caller.key is None:
                yield
            else:
                with self.keyring.held(caller.key, lambda: on_over(REVOKED)):
                    yield
        finally:
            if timer is not None:
                timer.cancel()

    async def caller(self, scope: Scope) -> Caller:
        """Whose an ASGI connection is. What it came with no longer stands in its address and subprotocols after."""
        token = _taken(scope)
        return self.stranger if token is None else await self.caller_of_token(token, events_in(scope))


def _taken(scope: Scope) -> str | None:
    """The one credential of a connection; several have to be the same."""
    found = set()
    for name, value in scope["headers"]:
        text = value.decode("latin-1").strip()
        if name == b"authorization":
            scheme, _, given = text.partition(" ")
            if scheme.lower() != "bearer" or not given.strip():
                raise TokenRefused("the header Authorization has to be: Bearer <key>")
            if given.strip() != PLACEHOLDER:
                found.add(given.strip())
        elif name == b"x-api-key":
            found.add(text)
    if "subprotocols" in scope:
        offered = scope["subprotocols"]
        found.update(name.removeprefix(BEARER) for name in offered if name.startswith(BEARER))
        scope["subprotocols"] = [name for name in offered if not name.startswith(BEARER)]
    query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    if tickets := [value for name, value in query if name == "ticket"]:
        if not all(map(TICKET.fullmatch, tickets)):
            raise TokenRefused("only a ticket may stand in an address, never a key")
        found.update(tickets)
        scope["query_string"] = urlencode([pair for pair in query if pair[0] != "ticket"]).encode()
    if len(found) > 1:
        raise TokenRefused("give one key, token or ticket")
    return found.pop() if found else None


@asynccontextmanager
async def access(bus: Bus, settings: AccessSettings) -> AsyncIterator[Access]:
    """Access by `settings`, kept up to date meanwhile."""
    async with keyring(bus) as keys, tokens(settings) as jwts:
        yield Access(settings, keys, Tickets(bus), jwts)
