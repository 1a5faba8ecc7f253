"""The pull loop: takes messages of a durable consumer, runs a handler on each, and says what became of it.

The client library's `fetch` can stall behind an orphaned request and its standing requests die with the connection,
so the loop speaks the pull protocol itself: one inbox, requests for as many messages as there are free slots, topped up
at half, and a fresh inbox whenever heartbeats stop.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any, Protocol

import msgspec
import structlog

from libs.common import subjects
from libs.common.announce import Endpoint
from libs.common.bus import Bus
from libs.common.delivery import Delivery, delivery_of, is_delivery
from libs.common.errors import BrokerUnavailable
from libs.common.handling import HANDED_BACK
from libs.common.refusal import NO_CONSUMER, ApiRefused
from libs.common.streams import ACK_WAIT_S, filter_of, remake
from libs.common.tally import Tally
from libs.common.tasks import end

HEARTBEAT_S = 1.0
MISSED_HEARTBEATS = 3.5  # this many heartbeats of silence: the request is dead
EXPIRES_S = 30.0
RETRY_S = 1.0

log = structlog.get_logger()


class Answering(Protocol):
    """What decides about messages: `handling.Handling`, or the quarantine."""

    @property
    def tally(self) -> Tally:
        """What has come of them."""

    async def answer(self, delivery: Delivery) -> bytes | None:
        """What the broker is to be told of a delivery, None for nothing."""


class PullLoop:
    """Runs `handling` on the messages of `durable`, at most `slots` at once.

    `ack_wait_s` holds until the consumer's own is known. A message that comes again while it is being handled here is
    not handled twice: the one answer goes for both.
    """

    def __init__(
        self, bus: Bus, stream: str, durable: str, handling: Answering, *, slots: int, ack_wait_s: float = ACK_WAIT_S
    ) -> None:
        self.bus = bus
        self.stream, self.durable = stream, durable
        self.handling = handling
        self.slots = slots
        self.ack_wait_s = ack_wait_s
        self._running: dict[int, asyncio.Task[None]] = {}  # by stream sequence
        self._latest: dict[int, Delivery] = {}  # likewise: what is to be answered
        self._requested = 0
        self._heard_at = 0.0
        self._ticked_at = time.monotonic()
        self._renew = asyncio.Event()
        self._freed = asyncio.Event()
        self._closed = False

    @property
    def endpoint(self) -> Endpoint:
        """What it does, as it is announced."""
        return Endpoint(self.durable, filter_of(self.durable), self.handling.tally, self.durable, self.slots)

    @property
    def alive(self) -> bool:
        """Whether the loop can take work: connected, and its requests are being answered."""
        return self.bus.connected and time.monotonic() - self._heard_at < HEARTBEAT_S * MISSED_HEARTBEATS * 2

    async def run(self, stop: asyncio.Event, drain_s: float) -> None:
        """Until `stop` is set; then what is in flight has `drain_s` to finish and the rest is handed back at once."""
        ticker = asyncio.create_task(self._tick(), name=f"in progress {self.durable}")
        stopping = asyncio.create_task(stop.wait())
        inbox: asyncio.Task[None] | None = None
        try:
            while not stop.is_set():
                inbox = asyncio.create_task(self._one_inbox(), name=f"pull {self.durable}")
                await asyncio.wait({inbox, stopping}, return_when=asyncio.FIRST_COMPLETED)
                self._closed = stop.is_set()
                await end(inbox)
                failure = None if inbox.cancelled() else inbox.exception()
                if failure is not None:
                    log.warning("cannot pull", consumer=self.durable, exc_info=failure)
                    await asyncio.wait({stopping}, timeout=RETRY_S)
            await self._drain(drain_s)
        finally:
            self._closed = True
            await end(stopping, ticker, *self._running.values(), *([inbox] if inbox else []))

    async def _one_inbox(self) -> None:
        """Pulls through one inbox until it has to be renewed."""
        answer = await self._consumer_info()
        self.ack_wait_s = answer["config"].get("ack_wait", self.ack_wait_s * 1e9) / 1e9
        inbox = self.bus.new_inbox()
        self._requested = 0
        self._renew.clear()
        self._heard_at = time.monotonic()
        subscription = await self.bus.subscribe_at_once(inbox, self._received)
        reconnects = self.bus.reconnects
        try:
            while not self._renew.is_set():
                free = self.slots - len(self._running) - self._requested
                if free > 0 and (free * 2 >= self.slots or self._requested == 0):
                    await self._request(inbox, free)
                self._freed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT_S):
                        await self._freed.wait()
                silent = time.monotonic() - self._heard_at
                if reconnects != self.bus.reconnects:
                    return
                if self._requested and silent > HEARTBEAT_S * MISSED_HEARTBEATS:
                    log.warning("no heartbeats; pulling anew", consumer=self.durable, silent_s=round(silent, 1))
                    return
                if not self._requested:
                    self._heard_at = time.monotonic() if self.bus.connected else self._heard_at
        finally:
            with suppress(Exception):  # the link is down: the subscription is gone with it, and that was logged
                await (subscription.drain() if self._closed else subscription.unsubscribe())

    async def _consumer_info(self) -> dict[str, Any]:
        subject = f"CONSUMER.INFO.{self.stream}.{self.durable}"
        try:
            return await self.bus.api(subject, patience_s=5.0)
        except ApiRefused as error:
            if error.err_code != NO_CONSUMER:
                raise
        log.error("the consumer is missing and is made again", consumer=self.durable, stream=self.stream)
        if not await remake(self.bus, self.stream, self.durable):
            raise BrokerUnavailable(f"consumer {self.durable} is missing; set up the streams")
        return await self.bus.api(subject, patience_s=5.0)

    async def _request(self, inbox: str, batch: int) -> None:
        body = {"batch": batch, "expires": int(EXPIRES_S * 1e9), "idle_heartbeat": int(HEARTBEAT_S * 1e9)}
        await self._tell(
            f"{subjects.JETSTREAM}.CONSUMER.MSG.NEXT.{self.stream}.{self.durable}",
            msgspec.json.encode(body),
            reply=inbox,
        )
        self._requested += batch

    async def _tell(self, subject: str, body: bytes, reply: str = "") -> None:
        try:
            await self.bus.client.publish(subject, body, reply=reply)
        except Exception as error:
            raise BrokerUnavailable(f"{subject}: {error}") from error

    def _received(self, message: Any) -> None:
        self._heard_at = time.monotonic()
        status = None if is_delivery(message.reply) else (message.headers or {}).get("Status")
        if is_delivery(message.reply):
            self._requested = max(0, self._requested - 1)
            self._take(delivery_of(message.subject, message.data, message.headers, message.reply))
        elif status == "100":
            pass
        elif status in ("404", "408"):
            left = int(message.headers.get("Nats-Pending-Messages", self._requested))
            self._requested = max(0, self._requested - left)
            self._freed.set()
        else:
            log.warning("pulling anew", consumer=self.durable, status=status, why=message.headers.get("Description"))
            self._renew.set()
            self._freed.set()

    def _take(self, delivery: Delivery) -> None:
        if self._closed:
            self.bus.background(self._answer(delivery, HANDED_BACK), f"hand back {delivery.subject}")
            return
        self._latest[delivery.sequence] = delivery
        if delivery.sequence in self._running:
            log.info("it is being handled already", subject=delivery.subject, delivered=delivery.delivered)
            return
        task = asyncio.create_task(self._handle(delivery), name=f"{self.durable} {delivery.subject}")
        self._running[delivery.sequence] = task
        task.add_done_callback(lambda _: self._ended(delivery.sequence))

    def _ended(self, sequence: int) -> None:
        del self._running[sequence], self._latest[sequence]
        self._freed.set()

    async def _handle(self, delivery: Delivery) -> None:
        try:
            answer = await self.handling.answer(delivery)
        except asyncio.CancelledError:
            await self._answer(self._latest[delivery.sequence], HANDED_BACK)
            raise
        await self._answer(self._latest[delivery.sequence], answer)

    def _stale(self) -> bool:
        """Whether this process stood still so long that its messages are another's by now."""
        return time.monotonic() - self._ticked_at > self.ack_wait_s

    async def _answer(self, delivery: Delivery, answer: bytes | None) -> None:
        if answer is None or (answer.startswith(HANDED_BACK) and self._stale()):
            return
        try:
            await self._tell(delivery.ack_subject, answer)
        except BrokerUnavailable as error:
            log.warning("an answer was lost; the message will come again", subject=delivery.subject, error=str(error))

    async def _tick(self) -> None:
        while True:
            self._ticked_at = time.monotonic()
            await asyncio.sleep(self.ack_wait_s / 3)
            for delivery in list(self._latest.values()):
                await self._answer(delivery, b"+WPI")

    async def _drain(self, drain_s: float) -> None:
        if self._running:
            log.info("draining", consumer=self.durable, in_flight=len(self._running))
            await asyncio.wait(set(self._running.values()), timeout=drain_s)
        left = set(self._running.values())
        for task in left:
            task.cancel()
        if left:
            log.info("handing back", consumer=self.durable, messages=len(left))
            await asyncio.wait(left, timeout=2)


def suspects_loop(bus: Bus, stage: str, lane: Answering, slots: int) -> PullLoop:
    """The loop over a stage's suspects."""
    return PullLoop(bus, subjects.QUARANTINE, subjects.SUSPECTS_OF[stage], lane, slots=slots)


async def run_loops(stop: asyncio.Event, drain_s: float, *loops: PullLoop) -> None:
    """Runs all of `loops` until `stop`."""
    async with asyncio.TaskGroup() as tasks:
        for loop in loops:
            tasks.create_task(loop.run(stop, drain_s))
