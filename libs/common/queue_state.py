"""How much waits in the queues, and for how long, as the broker says."""

from __future__ import annotations

from typing import NamedTuple

from libs.common.bus import Bus
from libs.common.delivery import seconds
from libs.common.refusal import NO_MESSAGE, ApiRefused


class QueueState(NamedTuple):
    """Of a durable: messages that wait, that are handed out, that were so more than once; the oldest's age, seconds.

    The age is of both that wait and that are handed out, by the broker's clock; None where there are none.
    """

    depth: int
    in_flight: int
    redelivered: int
    oldest_age_s: float | None


class StreamState(NamedTuple):
    """What a stream holds, and how many bytes it may; None: without a bound."""

    messages: int
    size: int
    most: int | None

    @property
    def fill(self) -> float:
        """The bytes as a share of what they may be, 0 without a bound."""
        return self.size / self.most if self.most else 0.0


async def queue_state(bus: Bus, stream: str, durable: str, patience_s: float) -> QueueState:
    """Raises ApiRefused where there is no such durable, StreamMissing or BrokerUnavailable."""
    info = await bus.api(f"CONSUMER.INFO.{stream}.{durable}", patience_s=patience_s)
    depth, in_flight = int(info["num_pending"]), int(info["num_ack_pending"])
    age_s = None
    if depth or in_flight:
        after, pattern = int(info["ack_floor"]["stream_seq"]), info["config"]["filter_subject"]
        stored_at = await _oldest(bus, stream, pattern, after, patience_s)
        age_s = None if stored_at is None else max(0.0, seconds(info["ts"]) - stored_at)
    return QueueState(depth, in_flight, int(info["num_redelivered"]), age_s)


async def _oldest(bus: Bus, stream: str, pattern: str, after: int, patience_s: float) -> float | None:
    """When the first message past the acknowledged ones was stored; what is acknowledged out of order comes later."""
    try:
        request = {"seq": after + 1, "next_by_subj": pattern}
        answer = await bus.api(f"STREAM.MSG.GET.{stream}", request, patience_s=patience_s)
    except ApiRefused as error:
        if error.err_code in NO_MESSAGE:  # it was answered meanwhile
            return None
        raise
    return seconds(answer["message"]["time"])


async def stream_state(bus: Bus, stream: str, patience_s: float) -> StreamState:
    """Raises StreamMissing or BrokerUnavailable."""
    info = await bus.api(f"STREAM.INFO.{stream}", patience_s=patience_s)
    most = int(info["config"].get("max_bytes", -1))
    return StreamState(int(info["state"]["messages"]), int(info["state"]["bytes"]), most if most > 0 else None)
