"""Which sessions were cancelled lately, as told by core NATS: what is known here saves work, and is never relied on."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from libs.common import subjects
from libs.common.bus import Bus
from libs.common.errors import SessionCancelled

REMEMBERED = 4096


class Cancelled:
    """The sessions whose work is to stop at once."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, None] = OrderedDict()
        self._working: dict[str, set[asyncio.Timeout]] = {}

    async def listen(self, bus: Bus) -> None:
        """From now on."""
        await bus.subscribe(subjects.ALL_CANCELS, self._told)

    def __contains__(self, session: str) -> bool:
        return session in self._sessions

    @asynccontextmanager
    async def stopping(self, session: str) -> AsyncIterator[None]:
        """Ends what is inside by SessionCancelled as soon as `session` is cancelled, at once where it is already."""
        if session in self:
            raise SessionCancelled
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._working.setdefault(session, set()).add(scope)
                yield
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise SessionCancelled from error
        finally:
            scopes = self._working.get(session, set())
            scopes.discard(scope)
            if not scopes:
                self._working.pop(session, None)

    async def _told(self, message: Any) -> None:
        session = message.subject.rsplit(".", 1)[-1]
        self._sessions[session] = None
        while len(self._sessions) > REMEMBERED:
            self._sessions.popitem(last=False)
        now = asyncio.get_running_loop().time()
        for scope in self._working.get(session, ()):
            if not scope.expired():
                scope.reschedule(now)
