"""Which sessions were cancelled lately, as told by core NATS: what is known here saves work, and is never relied on."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from libs.common import subjects
from libs.common.bus import Bus

REMEMBERED = 4096


class Cancelled:
    """The sessions whose work is to stop at once."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, None] = OrderedDict()
        self._waiting: dict[str, asyncio.Event] = {}

    async def listen(self, bus: Bus) -> None:
        """From now on."""
        await bus.subscribe(subjects.ALL_CANCELS, self._told)

    def __contains__(self, session: str) -> bool:
        return session in self._sessions

    async def wait(self, session: str) -> None:
        """Until `session` is cancelled."""
        if session in self:
            return
        event = self._waiting.setdefault(session, asyncio.Event())
        try:
            await event.wait()
        finally:
            self._waiting.pop(session, None)

    async def _told(self, message: Any) -> None:
        session = message.subject.rsplit(".", 1)[-1]
        self._sessions[session] = None
        while len(self._sessions) > REMEMBERED:
            self._sessions.popitem(last=False)
        if session in self._waiting:
            self._waiting[session].set()
