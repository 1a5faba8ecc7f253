"""What was found out for a key: asked for once by all who want it at the same time, and kept for a while.

Values alone are kept. A cache of tasks, as libraries have it, took three times the memory for a video, and so was too
large for a process, or too small to be of use.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Flight(Generic[V]):
    def __init__(self, task: asyncio.Task[V]) -> None:
        self.task = task
        self.waiting = 0


class Remembered(Generic[K, V]):
    """The `most` keys used last, each for up to `ttl_s`. What is raised is raised to all who wait, and not kept."""

    def __init__(self, most: int, ttl_s: float) -> None:
        self._most = most
        self._ttl_s = ttl_s
        self._kept: OrderedDict[K, tuple[float, V]] = OrderedDict()  # with the monotonic time until which it holds
        self._flights: dict[K, _Flight[V]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._flights or (key in self._kept and self._kept[key][0] > time.monotonic())

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, key: K, find: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """What is known for `key`, or what `find` gives; that is cancelled when nobody waits for it any more."""
        kept = self._kept.get(key)
        if kept is not None and kept[0] > time.monotonic():
            self._kept.move_to_end(key)
            return kept[1]
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(find(), name="find"))
            flight.task.add_done_callback(partial(self._landed, key, flight))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                flight.task.cancel()
                if self._flights.get(key) is flight:
                    del self._flights[key]

    def forget(self, key: K) -> None:
        """It is found out anew for those who ask from now on."""
        self._kept.pop(key, None)
        self._flights.pop(key, None)

    async def close(self) -> None:
        """Ends what is under way."""
        tasks = [flight.task for flight in self._flights.values()]
        self._flights.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _landed(self, key: K, flight: _Flight[V], task: asyncio.Task[V]) -> None:
        failed = task.cancelled() or task.exception() is not None
        if self._flights.get(key) is not flight:
            return  # forgotten meanwhile
        del self._flights[key]
        if failed:
            return
        self._kept[key] = (time.monotonic() + self._ttl_s, task.result())
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
