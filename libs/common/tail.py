"""The tail: every record of a stream from some point on, in order, without gaps, through restarts of the broker.

The client library's ordered consumer loses messages silently once its pending limit is hit, and its KV watch is dead
after a restart of the server; this one checks the consumer's own sequence and starts anew after what it saw last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from libs.common import subjects
from libs.common.bus import Bus, Stored
from libs.common.delivery import delivery_of, is_delivery
from libs.common.errors import BrokerUnavailable, PinstreamError
from libs.common.tally import Tally

HEARTBEAT_S = 1.0
MISSED_HEARTBEATS = 3.5
INACTIVE_S = 30.0
RETRY_S = 0.5

log = structlog.get_logger()


class Tail:
    """Calls `on_record` for each message on `pattern` that is stored after `start`."""

    def __init__(self, bus: Bus, stream: str, pattern: str, on_record: Callable[[Stored], None]) -> None:
        self.bus = bus
        self.stream, self.pattern = stream, pattern
        self.on_record = on_record
        self.sequence = 0
        self.restarts = 0
        self.tally = Tally()
        self._expected = 1
        self._heard_at = 0.0
        self._broken = asyncio.Event()
        self._inbox = ""
        self._created = ""  # when the stream was

    @property
    def alive(self) -> bool:
        """Whether records are coming: connected, and heard from lately."""
        return self.bus.connected and time.monotonic() - self._heard_at < HEARTBEAT_S * MISSED_HEARTBEATS * 2

    async def start(self) -> None:
        """Fixes the point from which on records are given: now."""
        info = await self.bus.api(f"STREAM.INFO.{self.stream}")
        self._created, self.sequence = info["created"], int(info["state"]["last_seq"])
        self._heard_at = time.monotonic()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._one_consumer()
                if self._broken.is_set():
                    await asyncio.sleep(RETRY_S)
            except PinstreamError as error:
                log.warning("cannot tail", stream=self.stream, error=str(error))
                await asyncio.sleep(RETRY_S)
            except Exception:
                log.exception("cannot tail", stream=self.stream)
                await asyncio.sleep(RETRY_S)
            self.restarts += 1

    async def _one_consumer(self) -> None:
        self._inbox = self.bus.new_inbox()
        self._expected = 1
        self._broken.clear()
        reconnects = self.bus.reconnects
        subscription = await self.bus.subscribe_at_once(self._inbox, self._received)
        name = ""
        try:
            name = await self._create()
            self._heard_at = time.monotonic()
            while reconnects == self.bus.reconnects:
                with suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT_S / 2):
                        await self._broken.wait()
                        return
                if time.monotonic() - self._heard_at > HEARTBEAT_S * MISSED_HEARTBEATS:
                    log.warning("no heartbeats; tailing anew", stream=self.stream, after=self.sequence)
                    return
        finally:
            with suppress(Exception):  # the link is down: the subscription is gone with it, and that was logged
                await subscription.unsubscribe()
                if name:
                    await self.bus.tell(f"{subjects.JETSTREAM}.CONSUMER.DELETE.{self.stream}.{name}")

    async def _create(self) -> str:
        info = await self.bus.api(f"STREAM.INFO.{self.stream}")
        if self._created not in ("", info["created"]):
            log.warning("the stream was made anew; tailing from its start", stream=self.stream)
            self.sequence = 0
        self._created = info["created"]
        config = {
            "deliver_subject": self._inbox,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self.sequence + 1,
            "ack_policy": "none",
            "filter_subject": self.pattern,
            "replay_policy": "instant",
            "flow_control": True,
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
            "inactive_threshold": int(INACTIVE_S * 1e9),
            "mem_storage": True,
            "num_replicas": 1,
            "max_deliver": 1,
        }
        name = self._inbox.rsplit(".", 1)[-1]
        request = {"stream_name": self.stream, "config": {**config, "name": name}}
        subject = f"CONSUMER.CREATE.{self.stream}.{name}.{self.pattern}"
        await self.bus.api(subject, request, patience_s=5.0)
        return name

    def _received(self, message: Any) -> None:
        self._heard_at = time.monotonic()
        headers = message.headers or {}
        if not is_delivery(message.reply):
            self._control(message, headers)
            return
        if self._broken.is_set():
            return
        delivery = delivery_of(message.subject, message.data, message.headers, message.reply)
        if delivery.consumer_sequence != self._expected:
            log.warning("gap in the tail; tailing anew", stream=self.stream, after=self.sequence)
            self._broken.set()
            return
        self._expected += 1
        if delivery.sequence > self.sequence:
            self.sequence = delivery.sequence
            with self.tally.working():
                self.on_record(
                    Stored(message.subject, delivery.sequence, delivery.stored_at, message.data, delivery.headers)
                )

    def _control(self, message: Any, headers: dict[str, str]) -> None:
        answer_to = message.reply or headers.get("Nats-Consumer-Stalled")
        if answer_to:
            self.bus.background(self._go_on(answer_to), f"go on {self.stream}")
        last = headers.get("Nats-Last-Consumer")
        if last is not None and int(last) >= self._expected and not message.reply:
            log.warning("gap before a heartbeat; tailing anew", stream=self.stream, after=self.sequence)
            self._broken.set()

    async def _go_on(self, answer_to: str) -> None:
        with suppress(BrokerUnavailable):  # a lost answer stalls the consumer, whose next heartbeat asks again
            await self.bus.tell(answer_to)
