"""Tabs that several searches read the feed with: fetching JSON needs a page of the site, and not one of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from libs.common.tasks import result_of
from services.crawler.tab import Tab

ROOMY = 5  # searches on one tab, up to which no warm one is taken: to make another costs half a second of a core
CROWDED = 10  # from which another is opened though none is warm


class SharedTab:
    """A tab, perhaps still being opened, and how many sessions it has."""

    def __init__(self, opening: asyncio.Task[Tab]) -> None:
        self.opening = opening
        self.sessions = 0

    @property
    def usable(self) -> bool:
        """Whether another session may join: it is being opened, or alive and not kept too long."""
        if not self.opening.done():
            return True
        tab = result_of(self.opening)
        return tab is not None and tab.alive and not tab.stale


class SharedTabs:
    """At most `most` of them take sessions; each session joins the one with the fewest while there is room on it.

    `open` gives a tab, `close` takes one that nobody waits for any more, `warm` says whether one can be given at once.
    """

    def __init__(
        self,
        most: int,
        open: Callable[[], Coroutine[Any, Any, Tab]],
        close: Callable[[Tab], object],
        warm: Callable[[], bool],
    ) -> None:
        self._most = most
        self._open = open
        self._close = close
        self._warm = warm
        self._tabs: list[SharedTab] = []

    async def join(self) -> tuple[SharedTab, Tab]:
        """A tab for one more session; to be told of by `left`. Raises what `open` raises."""
        shared = self._chosen()
        shared.sessions += 1
        try:
            return shared, await asyncio.shield(shared.opening)
        except BaseException:
            if self.left(shared):
                self._drop(shared.opening)
            raise

    def left(self, shared: SharedTab) -> bool:
        """One session less; returns whether it was the last, so that the tab is to be closed."""
        shared.sessions -= 1
        if shared.sessions:
            return False
        self._tabs.remove(shared)
        return True

    def _chosen(self) -> SharedTab:
        usable = [shared for shared in self._tabs if shared.usable]
        least = min(usable, key=lambda shared: (shared.sessions, not shared.opening.done()), default=None)
        if least is not None and (len(usable) >= self._most or least.sessions < (ROOMY if self._warm() else CROWDED)):
            return least
        shared = SharedTab(asyncio.create_task(self._open(), name="open shared tab"))
        self._tabs.append(shared)
        return shared

    def _drop(self, opening: asyncio.Task[Tab]) -> None:
        if not opening.done():
            opening.cancel()  # it closes what it has opened
        elif (tab := result_of(opening)) is not None:
            self._close(tab)
