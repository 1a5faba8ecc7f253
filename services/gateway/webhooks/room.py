"""How many posts may be under way at once: in all, to one host, for one caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class _Share:
    """Semaphores by name, each kept while somebody has to do with it."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: dict[str, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def one(self, name: str) -> AsyncIterator[None]:
        semaphore, users = self._open.get(name, (asyncio.Semaphore(self.most), 0))
        self._open[name] = semaphore, users + 1
        try:
            async with semaphore:
                yield
        finally:
            _, users = self._open[name]
            if users > 1:
                self._open[name] = semaphore, users - 1
            else:
                del self._open[name]


class Room:
    """Whoever waits for a slow host, or has many sessions, keeps nobody else waiting."""

    def __init__(self, most: int, per_host: int, per_caller: int) -> None:
        self._pairs, self._callers, self._hosts = _Share(per_host), _Share(per_caller), _Share(per_host)
        self._all = asyncio.Semaphore(most)

    @asynccontextmanager
    async def place(self, host: str, caller: str) -> AsyncIterator[None]:
        """Within, one may be posted.

        Who waits holds what is its own before what is shared: a caller's slow host takes some of its places, and none
        of another's.
        """
        own = self._pairs.one(f"{caller} {host}"), self._callers.one(caller)
        async with own[0], own[1], self._hosts.one(host), self._all:
            yield
