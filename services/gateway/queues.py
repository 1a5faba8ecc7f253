"""How much waits where: the durables' queues and the streams, as the broker tells; asked for while somebody looks."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import structlog

from libs.common import subjects
from libs.common.bus import Bus
from libs.common.errors import PinstreamError, StreamMissing
from libs.common.refusal import ApiRefused
from libs.common.streams import StreamSettings, consumers, streams

FRESH_S = 1.0
PATIENCE_S = 1.5

log = structlog.get_logger()


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """What a durable has yet to do: `pending` were not delivered yet, `in_flight` were and have no answer.

    `oldest_s` is how long ago the oldest of both was stored; of `deadlines` it is the age of the oldest session that
    is not over, or whose deadline is not.
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
        queues = [found for one in stages if (found := await self._queue(*one)) is not None]
        names = [config["name"] for config in streams(StreamSettings())]
        told = [stream for name in names if (stream := await self._stream(name)) is not None]
        return Depths(queues=tuple(queues), streams=tuple(told), looked_at=time.time())

    async def _queue(self, stream: str, config: dict[str, Any]) -> Queue | None:
        name = config["name"]
        info = await self._told(f"CONSUMER.INFO.{stream}.{name}")
        if info is None:
            return None
        pending, in_flight, oldest_s = info["num_pending"], info["num_ack_pending"], None
        if pending or in_flight:
            after = info["ack_floor"]["stream_seq"]
            oldest = await self.bus.read(stream, config["filter_subject"], after + 1, 1)
            oldest_s = round(max(0.0, time.time() - oldest[0].stored_at), 3) if oldest else None
        return Queue(
            consumer=name,
            stream=stream,
            pending=pending,
            in_flight=in_flight,
            redelivered=info["num_redelivered"],
            oldest_s=oldest_s,
        )

    async def _stream(self, name: str) -> Stream | None:
        info = await self._told(f"STREAM.INFO.{name}")
        if info is None:
            return None
        most = info["config"].get("max_bytes", -1)
        state = info["state"]
        return Stream(
            stream=name, messages=state["messages"], bytes=state["bytes"], most_bytes=most if most > 0 else None
        )

    async def _told(self, subject: str) -> dict[str, Any] | None:
        """None where there is no such thing."""
        try:
            return await self.bus.api(subject, patience_s=PATIENCE_S)
        except (ApiRefused, StreamMissing):
            return None
