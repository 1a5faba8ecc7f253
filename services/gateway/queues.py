"""How much waits where: the durables' queues and the streams, as the broker tells; asked for while somebody looks."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import msgspec
import structlog

from libs.common import subjects
from libs.common.bus import Bus
from libs.common.errors import PinstreamError, StreamMissing
from libs.common.queue_state import queue_state, stream_state
from libs.common.refusal import ApiRefused
from libs.common.streams import StreamSettings, consumers, streams

FRESH_S = 1.0
PATIENCE_S = 1.5
NOT_THERE = (ApiRefused, StreamMissing)

log = structlog.get_logger()


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """What a durable has yet to do: `pending` were not delivered yet, `in_flight` were and have no answer.

    `oldest_s` is how long ago the oldest of both was stored, by the broker's clock; of `deadlines` it is the age of the
    oldest session that is not over, or whose deadline is not.
    """

    consumer: str
    stream: str
    pending: int
    in_flight: int
    redelivered: int
    oldest_s: float | None = None


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream holds; `most_bytes` is its bound."""

    stream: str
    messages: int
    bytes: int
    most_bytes: int | None


class Depths(msgspec.Struct, frozen=True, kw_only=True):
    """All of both, at `looked_at`, seconds since 1970."""

    queues: tuple[Queue, ...] = ()
    streams: tuple[Stream, ...] = ()
    looked_at: float = 0.0


class Queues:
    """Looks when asked, once for all who ask within FRESH_S."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.depths = Depths()
        self._looking = asyncio.Lock()
        self._tried_at = float("-inf")

    async def look(self) -> Depths:
        """As they are; where the broker does not say, as they were when it did."""
        async with self._looking:
            if self.bus.connected and time.monotonic() - self._tried_at > FRESH_S:
                self._tried_at = time.monotonic()
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        self.depths = await self._asked()
                except (TimeoutError, PinstreamError) as error:
                    log.info("the broker does not say how much waits", error=str(error) or "no answer")
        return self.depths

    async def _asked(self) -> Depths:
        stages = sorted(consumers(), key=lambda one: one[0] == subjects.QUARANTINE)
        queues = [found for stream, one in stages if (found := await self._queue(stream, one["name"])) is not None]
        names = [config["name"] for config in streams(StreamSettings())]
        told = [stream for name in names if (stream := await self._stream(name)) is not None]
        return Depths(queues=tuple(queues), streams=tuple(told), looked_at=time.time())

    async def _queue(self, stream: str, durable: str) -> Queue | None:
        """None where there is no such thing."""
        with suppress(*NOT_THERE):
            depth, in_flight, redelivered, age_s = await queue_state(self.bus, stream, durable, PATIENCE_S)
            return Queue(
                consumer=durable,
                stream=stream,
                pending=depth,
                in_flight=in_flight,
                redelivered=redelivered,
                oldest_s=None if age_s is None else round(age_s, 3),
            )
        return None

    async def _stream(self, name: str) -> Stream | None:
        """None where there is no such thing."""
        with suppress(*NOT_THERE):
            messages, size, most = await stream_state(self.bus, name, PATIENCE_S)
            return Stream(stream=name, messages=messages, bytes=size, most_bytes=most)
        return None
