"""Every message that a broker carries, counted by what it is; no client of it knows that it is counted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.aio.msg import Msg

MOST_WAITING = 1_000_000  # messages not yet counted; past it some would be lost, and that is an error
DELIVERED_BY = "$JS.ACK."  # begins the reply subject of what a stream delivers


def kind_of(message: Msg) -> str:
    """What a message is, without ids: `published media.raw`, `delivered RAW`, `ack +ACK RAW`, `api STREAM.INFO RAW`."""
    subject, parts = message.subject, message.subject.split(".")
    headers = message.headers or {}
    if subject.startswith("$JS.API."):
        kind = f"api {_request(parts[2:])}"
    elif subject.startswith("$JS.ACK."):
        kind = f"ack {message.data[:4].decode(errors='replace')} {parts[2]}"
    elif message.reply.startswith(DELIVERED_BY):
        kind = f"delivered {message.reply.split('.')[2]}"
    elif subject.startswith("_INBOX"):
        status = None if "Nats-Sequence" in headers else headers.get("Status")
        kind = f"status {status}" if status else "answer"
    elif subject.startswith("$KV."):
        record = f".{parts[3]}" if parts[1] == "results" and len(parts) > 3 else ""
        kind = f"published $KV.{parts[1]}{record}"
    elif parts[0] in ("results", "$SRV"):
        kind = {"results": "republished results", "$SRV": f"asked {'.'.join(parts[:2])}"}[parts[0]]
    else:
        kind = f"published {'.'.join(parts[:2])}"
    return kind


def _request(parts: list[str]) -> str:
    """`STREAM.INFO RAW` of `STREAM.INFO.RAW` and `CONSUMER.MSG.NEXT RAW` of `CONSUMER.MSG.NEXT.RAW.transformer`."""
    words = 3 if parts[1] == "MSG" else 2
    return f"{'.'.join(parts[:words])} {parts[words]}"


class Tap:
    """What was counted since `begin`: messages, and bytes of subject, headers and body, by kind."""

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self._since = time.monotonic()

    @property
    def seconds(self) -> float:
        """For how long it counts."""
        return time.monotonic() - self._since

    def begin(self) -> None:
        """Counts anew."""
        self.messages.clear()
        self.bytes.clear()
        self._since = time.monotonic()

    async def hear(self, message: Msg) -> None:
        """One more."""
        kind = kind_of(message)
        headers = sum(len(name) + len(value) + 4 for name, value in (message.headers or {}).items())
        self.messages[kind] += 1
        self.bytes[kind] += len(message.subject) + headers + len(message.data)


@asynccontextmanager
async def tapped(nats_url: str) -> AsyncIterator[Tap]:
    """Counts meanwhile. The broker tells of each request to JetStream where somebody listens; that is not counted."""
    lost: list[Exception] = []

    async def failed(error: Exception) -> None:
        lost.append(error)

    client = await nats.connect(nats_url, error_cb=failed)
    tap = Tap()

    async def hear(message: Msg) -> None:
        if not message.subject.startswith("$JS.EVENT."):
            await tap.hear(message)

    try:
        await client.subscribe(">", cb=hear, pending_msgs_limit=MOST_WAITING, pending_bytes_limit=-1)
        await client.flush()
        yield tap
    finally:
        await client.close()
    assert not lost, f"not everything was counted: {lost}"
