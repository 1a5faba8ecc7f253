"""Who waits for records of a session learns of them by the one tail that the gateway has over all logs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from libs.common import subjects
from libs.common.bus import Stored
from libs.common.session_log import SessionLog

SOON_S = 0.25  # what is no video is looked at with what comes within so long
CHECK_S = 30.0  # without a word; the session may have been removed from the log

_AT_ONCE = (subjects.VIDEO, subjects.CRAWLED, subjects.CANCEL)


class Bell:
    """Rings for one session."""

    def __init__(self) -> None:
        self._any, self._urgent = asyncio.Event(), asyncio.Event()

    def ring(self, kind: str) -> None:
        """A record of that kind was stored."""
        self._any.set()
        if kind in _AT_ONCE:
            self._urgent.set()

    def clear(self) -> None:
        """What rang so far is known; call it before the log is read."""
        self._any.clear()
        self._urgent.clear()

    async def wait(self) -> None:
        """Returns when the log is worth another look."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CHECK_S):
                await self._any.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(SOON_S):
                await self._urgent.wait()


class Bells:
    """Those of all sessions that are posted by this gateway."""

    def __init__(self) -> None:
        self._bells: dict[str, Bell] = {}

    @contextmanager
    def hung(self, session_log: SessionLog) -> Iterator[None]:
        """They hear the log meanwhile."""
        session_log.listeners.append(self._stored)
        try:
            yield
        finally:
            session_log.listeners.remove(self._stored)

    @contextmanager
    def bell(self, session: str) -> Iterator[Bell]:
        """One that rings meanwhile."""
        bell = self._bells[session] = Bell()
        try:
            yield bell
        finally:
            if self._bells.get(session) is bell:
                del self._bells[session]

    def _stored(self, stored: Stored) -> None:
        bell = self._bells.get(subjects.session_in(stored.subject))
        if bell is not None:
            bell.ring(subjects.record_key(stored.subject).kind)
