"""The pull loop: takes messages of a durable consumer, runs a handler on each, and says what became of it.

The client library's `fetch` can stall behind an orphaned request and its standing requests die with the connection,
so the loop speaks the pull protocol itself: one inbox, requests for as many messages as there are free slots, topped up
at half, and a fresh inbox whenever heartbeats stop.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
import structlog
from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.trace import SpanKind

from libs.common import subjects
from libs.common.bus import Bus
from libs.common.delivery import Delivery, delivery_of
from libs.common.errors import BrokerUnavailable, MalformedMessage, PinstreamError, PublishRefused
from libs.common.refusal import NO_CONSUMER, ApiRefused
from libs.common.tasks import end
from libs.common.telemetry import extract, mark_failed, message_span

HEARTBEAT_S = 1.0
MISSED_HEARTBEATS = 3.5  # this many heartbeats of silence: the request is dead
EXPIRES_S = 30.0
RETRY_S = 1.0
NAK_FIRST_S, NAK_MOST_S = 0.25, 15.0
MAX_FAILURES = 6  # of one message's handler in one process: about ten seconds of tries
LETTER_ROOM_BYTES = 16 * 1024  # for the headers of a dead letter, whose body may be as large as the broker takes
REMEMBERED_FAILURES = 10_000

log = structlog.get_logger()


class Later(PinstreamError):
    """Hand the message back and deliver it again after `delay_s`."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(f"again in {delay_s:g} s")
        self.delay_s = delay_s


class Superseded(PinstreamError):
    """Another delivery of the message is being worked on; this one is not answered at all."""


Handler = Callable[[Delivery], Awaitable[None]]
GaveUp = Callable[[Delivery, str], Awaitable[None]]


class PullLoop:
    """Runs `handler` on the messages of `durable`, at most `slots` at once.

    A handler that returns is done with its message; one that raises Later gets it again after that delay; one that
    raises anything else gets it again with growing delays. A message that cannot be read (MalformedMessage), or whose
    handler has failed MAX_FAILURES times, goes to `gave_up`, then to the dead letters.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        durable: str,
        template: str,
        handler: Handler,
        gave_up: GaveUp,
        *,
        slots: int,
        ack_wait_s: float,
    ) -> None:
        self.bus = bus
        self.stream, self.durable, self.template = stream, durable, template
        self.handler, self.gave_up = handler, gave_up
        self.slots = slots
        self.ack_wait_s = ack_wait_s
        self._running: dict[asyncio.Task[None], Delivery] = {}
        self._requested = 0
        self._heard_at = 0.0
        self._ticked_at = time.monotonic()
        self._renew = asyncio.Event()
        self._freed = asyncio.Event()
        self._closed = False
        self._failures: dict[int, int] = {}  # by stream sequence, of messages that this process has failed at

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
            await end(stopping, ticker, *self._running, *([inbox] if inbox else []))

    async def _one_inbox(self) -> None:
        """Pulls through one inbox until it has to be renewed."""
        answer = await self._consumer_info()
        self.ack_wait_s = answer["config"].get("ack_wait", self.ack_wait_s * 1e9) / 1e9
        inbox = self.bus.new_inbox()
        self._requested = 0
        self._renew.clear()
        self._heard_at = time.monotonic()
        subscription = await self.bus.subscribe(inbox, self._received)
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
        try:
            return await self.bus.api(f"CONSUMER.INFO.{self.stream}.{self.durable}", patience_s=5.0)
        except ApiRefused as error:
            if error.err_code == NO_CONSUMER:
                raise BrokerUnavailable(f"consumer {self.durable} is missing; set up the streams") from error
            raise

    async def _request(self, inbox: str, batch: int) -> None:
        body = {"batch": batch, "expires": int(EXPIRES_S * 1e9), "idle_heartbeat": int(HEARTBEAT_S * 1e9)}
        await self._tell(
            f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.durable}", msgspec.json.encode(body), reply=inbox
        )
        self._requested += batch

    async def _tell(self, subject: str, body: bytes, reply: str = "") -> None:
        try:
            await self.bus.client.publish(subject, body, reply=reply)
        except Exception as error:
            raise BrokerUnavailable(f"{subject}: {error}") from error

    async def _received(self, message: Any) -> None:
        self._heard_at = time.monotonic()
        status = (message.headers or {}).get("Status")
        if status is None:
            self._requested = max(0, self._requested - 1)
            delivery = delivery_of(message.subject, message.data, message.headers, message.reply)
            if self._closed:
                await self._answer(delivery, b"-NAK")
                return
            task = asyncio.create_task(self._handle(delivery), name=f"{self.durable} {delivery.subject}")
            self._running[task] = delivery
            task.add_done_callback(self._ended)
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

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._freed.set()

    async def _handle(self, delivery: Delivery) -> None:
        """Decides what becomes of a message: done, later or never."""
        structlog.contextvars.bind_contextvars(subject=delivery.subject)
        context = extract(delivery.headers)
        redelivered = delivery.delivered > 1
        sampled = trace.get_current_span(context).get_span_context().trace_flags.sampled
        if not (sampled or redelivered):
            token = attach(context)
            try:
                await self._answer(delivery, await self._outcome(delivery))
            finally:
                detach(token)
            return
        attributes: dict[str, str | int | float | bool] = {
            "messaging.consumer.group.name": self.durable,
            "messaging.message.body.size": len(delivery.body),
            "messaging.message.delivery_count": delivery.delivered,
        }
        with message_span(
            "process", self.template, SpanKind.CONSUMER, context, record=redelivered, attributes=attributes
        ):
            await self._answer(delivery, await self._outcome(delivery))

    async def _outcome(self, delivery: Delivery) -> bytes | None:
        try:
            await self.handler(delivery)
        except Later as later:
            return _nak(later.delay_s)
        except Superseded as error:
            log.warning("superseded", subject=delivery.subject, why=str(error))
            return None
        except asyncio.CancelledError:
            await self._answer(delivery, b"-NAK")
            raise
        except MalformedMessage as error:
            log.error("unreadable message", subject=delivery.subject, error=str(error))
            mark_failed(error)
            return await self._bury(delivery, str(error))
        except Exception as error:
            mark_failed(error)
            log.warning("message not handled", subject=delivery.subject, delivered=delivery.delivered, exc_info=error)
            if self._failed_for_good(delivery, error):
                return await self._bury(delivery, f"{type(error).__name__}: {error}")
            most = min(NAK_MOST_S, NAK_FIRST_S * 2.0 ** (delivery.delivered - 1))
            return _nak(random.uniform(most / 2, most))
        self._failures.pop(delivery.sequence, None)
        return b"+ACK"

    def _failed_for_good(self, delivery: Delivery, error: Exception) -> bool:
        """Counts failures and not deliveries, which crashes and outages use up too."""
        if isinstance(error, BrokerUnavailable | PublishRefused):
            return False
        failures = self._failures.pop(delivery.sequence, 0) + 1
        self._failures[delivery.sequence] = failures
        if len(self._failures) > REMEMBERED_FAILURES:
            del self._failures[next(iter(self._failures))]
        return failures >= MAX_FAILURES

    async def _bury(self, delivery: Delivery, why: str) -> bytes:
        """Gives a message up: its outcome first, then the letter, then the ack, so that a crash repeats it all."""
        try:
            await self._give_up(delivery, why)
            headers = {_kept(name): value for name, value in delivery.headers.items()}
            headers["Pinstream-Reason"] = why.replace("\n", " ")[:500]
            letter = subjects.dead_letter(self.durable, delivery.subject)
            room = self.bus.client.max_payload - LETTER_ROOM_BYTES
            await self.bus.publish(letter, delivery.body[:room], headers=headers)
        except (BrokerUnavailable, PublishRefused) as error:
            log.warning("could not bury a message yet", subject=delivery.subject, error=str(error))
            return _nak(NAK_MOST_S)
        return b"+TERM"

    async def _give_up(self, delivery: Delivery, why: str) -> None:
        try:
            await self.gave_up(delivery, why)
        except MalformedMessage as error:  # not even its subject can be read, so there is no item to speak of
            log.error("a message has no item", subject=delivery.subject, error=str(error))

    def _stale(self) -> bool:
        """Whether this process stood still so long that its messages are another's by now."""
        return time.monotonic() - self._ticked_at > self.ack_wait_s

    async def _answer(self, delivery: Delivery, answer: bytes | None) -> None:
        if answer is None or (answer.startswith(b"-NAK") and self._stale()):
            return
        try:
            await self._tell(delivery.ack_subject, answer)
        except BrokerUnavailable as error:
            log.warning("an answer was lost; the message will come again", subject=delivery.subject, error=str(error))

    async def _tick(self) -> None:
        while True:
            self._ticked_at = time.monotonic()
            await asyncio.sleep(self.ack_wait_s / 3)
            for delivery in list(self._running.values()):
                await self._answer(delivery, b"+WPI")

    async def _drain(self, drain_s: float) -> None:
        if self._running:
            log.info("draining", consumer=self.durable, in_flight=len(self._running))
            await asyncio.wait(set(self._running), timeout=drain_s)
        left = set(self._running)
        for task in left:
            task.cancel()
        if left:
            log.info("handing back", consumer=self.durable, messages=len(left))
            await asyncio.wait(left, timeout=2)


def _kept(header: str) -> str:
    """A dead letter's name for a header: the broker would act on its own ones again."""
    return f"Original-{header}" if header.lower().startswith("nats-") else header


def _nak(delay_s: float) -> bytes:
    return b"-NAK " + msgspec.json.encode({"delay": int(delay_s * 1e9)})
