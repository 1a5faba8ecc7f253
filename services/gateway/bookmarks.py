"""Where clients that read a session page by page are in its log, so that each page is read from there on.

A gateway that has no bookmark, such as another one, reads from the session's start once, with the same outcome.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import NamedTuple

from libs.common.session_state import SessionState

KEPT_S = 60.0  # a client asks for the next page sooner
MOST_OUTCOMES = 100_000  # of all bookmarks together: about 10 MB


class _Bookmark(NamedTuple):
    state: SessionState
    until: float


class Bookmarks:
    """What has been read of sessions, up to the last video of a page."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], _Bookmark] = OrderedDict()
        self._outcomes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, session: str, after: int) -> SessionState | None:
        """What had been read when the page ended that had `after` as its last; it is the taker's alone."""
        self._drop_old()
        found = self._pop((session, after)) if (session, after) in self._kept else None
        return None if found is None else found.state

    def keep(self, session: str, after: int, state: SessionState) -> None:
        """For who goes on after `after`."""
        if (session, after) in self._kept:
            self._pop((session, after))
        self._kept[session, after] = _Bookmark(state, time.monotonic() + KEPT_S)
        self._outcomes += len(state.outcomes)
        self._drop_old()

    def _drop_old(self) -> None:
        now = time.monotonic()
        while self._kept:
            oldest = next(iter(self._kept))
            if self._outcomes <= MOST_OUTCOMES and self._kept[oldest].until > now:
                return
            self._pop(oldest)

    def _pop(self, name: tuple[str, int]) -> _Bookmark:
        found = self._kept.pop(name)
        self._outcomes -= len(found.state.outcomes)
        return found
