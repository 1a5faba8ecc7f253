"""What one client asks for, and what it is given."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Literal, NamedTuple

from libs.common.frames import Completed
from libs.common.messages import Kind, Reason, Video
from tests.fake_pinterest import Expected, expected_results

What = Literal["whole", "limited", "cancelled"]

TOPICS = ("ceramic glaze", "paper boats", "stop motion", "sourdough", "tiny houses")
ALL = 1000
KINDS: tuple[What, ...] = ("whole", "limited", "cancelled")
SHARES = (0.65, 0.2, 0.15)


class Wish(NamedTuple):
    """One session's request and its client's habits; the same for the same seed and number."""

    number: int
    query: str
    limit: int
    kind: What
    library: bool  # the client library at one gateway, instead of a WebSocket that goes from one to another
    drops_every_s: float  # of the WebSocket, on average
    cancel_after_s: float


def wish(seed: int, number: int) -> Wish:
    """What the session of that number asks for."""
    rng = Random(f"{seed} session {number}")
    query = f"{rng.choice(TOPICS)} pins:{rng.randint(20, 60)} seed:{seed}-{number}"
    kind = rng.choices(KINDS, SHARES)[0]
    limit = rng.randint(1, 20) if kind == "limited" else ALL
    return Wish(number, query, limit, kind, rng.random() < 0.5, rng.uniform(0.5, 4.0), rng.uniform(0.1, 3.0))


class Given(NamedTuple):
    """A video frame as it came."""

    sequence: int
    key: str  # of the video among the expected ones


@dataclass
class Session:
    """What became of it, as its client saw it."""

    wish: Wish
    session_id: str | None = None
    accepted: asyncio.Event = field(default_factory=asyncio.Event)
    given: list[Given] = field(default_factory=list)
    completed: list[Completed] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)  # of the protocol: what must never be seen
    refusals: int = 0  # told to come back
    connections: int = 0
    began_s: float = 0.0
    took_s: float | None = None
    _expected: Expected | None = None
    _embeds: dict[str, str] = field(default_factory=dict)  # by the pin that shows it

    @property
    def expected(self) -> Expected:
        """What the stand-in has for its query."""
        if self._expected is None:
            self._expected = expected_results(self.wish.query)
            self._embeds = {pin: one.id for one in self._expected.videos if one.kind == "embed" for pin in one.pins}
        return self._expected

    def key(self, video: Video) -> str:
        """The name of `video` among the expected ones: an embed has its own address there."""
        assert self.expected
        if video.kind is Kind.EMBED:
            return self._embeds.get(video.pin.id or "", f"embed {video.url}")
        return video.id

    @property
    def may_end_by(self) -> set[Reason]:
        """The reasons that are right."""
        if self.wish.kind == "whole":
            return {Reason.EXHAUSTED}
        right = set()
        if self.wish.limit <= self.expected.unique:
            right.add(Reason.LIMIT)
        if self.wish.limit >= self.expected.unique:
            right.add(Reason.EXHAUSTED)
        return right | ({Reason.CANCELLED} if self.wish.kind == "cancelled" else set())
