"""Who a Firebase client is: its tokens come in an address, in a header, or in a message after the connection stands."""

from __future__ import annotations

from typing import Protocol

from msgspec.structs import replace

from services.gateway.access import PLACEHOLDER
from services.gateway.callers import Caller, TokenRefused

EXPIRED = "what you came with has expired or was revoked"
AUTH, APP_CHECK = "auth", "app check"


class Authenticator(Protocol):
    """Who a token is of."""

    async def caller_of_token(self, token: str) -> Caller:
        """Raises TokenRefused."""
        ...

    def valid(self, caller: Caller) -> bool:
        """Whether what a caller came with is still good."""
        ...


class NoTokens:
    """Of a gateway that knows no tokens: whoever gives one is told so."""

    async def caller_of_token(self, token: str) -> Caller:
        """Refuses."""
        raise TokenRefused("this gateway takes no tokens")

    def valid(self, caller: Caller) -> bool:
        """As ever."""
        return True


class Identity:
    """The caller of one connection: as it came, unless it gives a token; `auth` goes before App Check."""

    def __init__(self, came_as: Caller, authenticator: Authenticator) -> None:
        self.came_as = came_as
        self.authenticator = authenticator
        self._given: dict[str, Caller] = {}

    @property
    def caller(self) -> Caller:
        """Whom it acts for now."""
        return self._given.get(AUTH) or self._given.get(APP_CHECK) or self.came_as

    async def take(self, kind: str, token: str) -> None:
        """Acts for whom `token` is of from now on. Raises TokenRefused, and then for nobody of that kind."""
        self._given.pop(kind, None)
        if token != PLACEHOLDER:
            self._given[kind] = replace(await self.authenticator.caller_of_token(token), place=self.came_as.place)

    def drop(self, kind: str) -> None:
        """Signed out."""
        self._given.pop(kind, None)

    def revoked(self) -> str | None:
        """Of which kind is what it came with that is no longer good."""
        for kind, caller in {AUTH: self.came_as, **self._given}.items():
            if not self.authenticator.valid(caller):
                return kind
        return None
