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
from services.gateway.access_settings import AccessSettings, is_loopback
from services.gateway.callers import ANONYMOUS, LOCAL, STRANGER, Caller, TokenRefused
from services.gateway.door import PLACE_KEY
from services.gateway.keyring import Keyring, keyring
from services.gateway.origins import called
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

    def stranger(self, scope: Scope | None = None) -> Caller:
        """The caller who has given nothing: one that may search, or one that is not admitted."""
        if self.settings.anonymous_allowed:
            return LOCAL if self.settings.here_alone else ANONYMOUS
        if scope is not None and self.settings.anonymous_allowed_here and _from_here(scope):
            return ANONYMOUS
        return STRANGER

    async def caller_of_token(self, token: str, scope: Scope | None = None) -> Caller:
        """Whose a key, a JWT or a ticket is. Raises TokenRefused or BrokerUnavailable.

        A ticket is used up, but for the session whose events `scope` asks for.
        """
        if TICKET.fullmatch(token):
            caller = await self.tickets.redeem(token, None if scope is None else events_in(scope))
            if caller.key is not None and not self.keyring.valid(caller.key):
                raise TokenRefused
            # what another gateway let in without a key is not in here
            return caller if caller.owner else self.stranger(scope)
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
        with _until(caller.until, lambda: on_over(EXPIRED)):
            if caller.key is None:
                yield
            else:
                with self.keyring.held(caller.key, lambda: on_over(REVOKED)):
                    yield

    async def caller(self, scope: Scope) -> Caller:
        """Whose an ASGI connection is. What it came with no longer stands in its address and subprotocols after."""
        token = _taken(scope)
        return self.stranger(scope) if token is None else await self.caller_of_token(token, scope)


@contextmanager
def _until(end_at: float | None, on_over: Callable[[], None]) -> Iterator[None]:
    """Calls `on_over` at that time, in seconds since 1970, while the context lasts."""
    if end_at is None:
        yield
        return
    loop = asyncio.get_running_loop()
    timer: asyncio.Handle

    def look() -> None:
        nonlocal timer
        left_s = end_at - time.time()
        if left_s > 0:
            timer = loop.call_later(min(left_s, LONGEST_S), look)
        else:
            on_over()

    timer = loop.call_soon(look)
    try:
        yield
    finally:
        timer.cancel()


def _from_here(scope: Scope) -> bool:
    """Whether this machine is both who asks and what was asked for: a page of a name that was made to lead here is not,
    nor is what a proxy hands on for somebody else."""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    return bool(scope.get("client")) and scope.get(PLACE_KEY) == "" and is_loopback(called(host) or "")


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
