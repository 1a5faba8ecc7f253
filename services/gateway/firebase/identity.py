"""Who a Firebase client is: its tokens come in an address, in a header, or in a message after the connection stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Protocol, Self

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

    def held(self, caller: Caller, on_over: Callable[[str], None]) -> AbstractContextManager[None]:
        """Calls `on_over` once what a caller came with is no longer good, while the context lasts."""
        ...


class NoTokens:
    """Of a gateway that knows no tokens: whoever gives one is told so."""

    async def caller_of_token(self, token: str) -> Caller:
        """Refuses."""
        raise TokenRefused("this gateway takes no tokens")

    def held(self, caller: Caller, on_over: Callable[[str], None]) -> AbstractContextManager[None]:
        """It is as good as ever."""
        return nullcontext()


class Identity:
    """The caller of one connection: as it came, unless it gives a token; `auth` goes before App Check.

    While it is open it is watched whether all that the client has given is good.
    """

    def __init__(self, came_as: Caller, authenticator: Authenticator) -> None:
        self.came_as = came_as
        self.authenticator = authenticator
        self._given: dict[str, Caller] = {}
        self._holds: dict[str, ExitStack] = {}
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> Self:
        self._hold("", AUTH, self.came_as)
        return self

    def __exit__(self, *_: object) -> None:
        for hold in self._holds.values():
            hold.close()

    @property
    def caller(self) -> Caller:
        """Whom it acts for now."""
        return self._given.get(AUTH) or self._given.get(APP_CHECK) or self.came_as

    @property
    def revoked(self) -> bool:
        """Whether something is no longer good."""
        return self._over.done()

    async def over(self) -> str:
        """Returns once something is no longer good: of which kind that is."""
        return await asyncio.shield(self._over)

    async def take(self, kind: str, token: str) -> None:
        """Acts for whom `token` is of from now on. Raises TokenRefused, and then for nobody of that kind."""
        self.drop(kind)
        if token != PLACEHOLDER:
            caller = replace(await self.authenticator.caller_of_token(token), place=self.came_as.place)
            self._given[kind] = caller
            self._hold(kind, kind, caller)

    def drop(self, kind: str) -> None:
        """Signed out."""
        self._given.pop(kind, None)
        if kind in self._holds:
            self._holds.pop(kind).close()

    def _hold(self, name: str, kind: str, caller: Caller) -> None:
        hold = self._holds[name] = ExitStack()
        hold.enter_context(self.authenticator.held(caller, lambda _why: self._end(kind)))

    def _end(self, kind: str) -> None:
        if not self._over.done():
            self._over.set_result(kind)
