"""What one running site remembers: requests seen, faults used up, topics and boards met."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from typing import Any

from .feeds import Feed

_KEPT_REQUESTS = 5_000
_KEPT_FEEDS = 20_000


class State:
    def __init__(self, latency_ms: int = 0, cdn_latency_ms: int = 0) -> None:
        self.latency_ms = latency_ms
        self.cdn_latency_s = cdn_latency_ms / 1000
        self.requests: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()  # of requests and answers, heads and bodies
        self.statuses: Counter[str] = Counter()
        self.connects: Counter[str] = Counter()
        self.recent: deque[dict[str, Any]] = deque(maxlen=_KEPT_REQUESTS)
        self._used: Counter[str] = Counter()
        self._topics: OrderedDict[int, str] = OrderedDict()
        self._feeds: OrderedDict[int, Feed] = OrderedDict()
        self._boards: OrderedDict[str, Feed] = OrderedDict()
        self._turns = 0
        self._started = time.monotonic()

    def seen(self, kind: str, method: str, target: str, status: int) -> None:
        self.requests[kind] += 1
        self.statuses[str(status)] += 1
        at_s = round(time.monotonic() - self._started, 4)
        self.recent.append({"at_s": at_s, "kind": kind, "method": method, "target": target, "status": status})

    def forget_requests(self) -> None:
        for counter in (self.requests, self.bytes, self.statuses, self.connects):
            counter.clear()
        self.recent.clear()

    def use(self, key: str, times: int | None) -> bool:
        """Whether a thing that happens so many times (None: always) happens once more."""
        if times is None:
            return True
        self._used[key] += 1
        return self._used[key] <= times

    def first_time(self, key: str) -> bool:
        return self.use(key, 1)

    def turn(self) -> int:
        """A number that is another each time."""
        self._turns += 1
        return self._turns

    def remember(self, feed: Feed) -> None:
        """A feed's topic, for the titles of its pins, and a board's faults, which its id does not tell."""
        self._topics[feed.tag] = feed.topic
        self._feeds[feed.tag] = feed
        self._boards[feed.board_id] = feed
        for kept in (self._topics, self._feeds, self._boards):
            if len(kept) > _KEPT_FEEDS:
                kept.popitem(last=False)

    def topic(self, tag: int) -> str:
        return self._topics.get(tag, "")

    def feed(self, tag: int) -> Feed | None:
        return self._feeds.get(tag)

    def board(self, feed: Feed) -> Feed:
        return self._boards.get(feed.board_id, feed)
