"""What becomes of a message: done, later or never, decided in one place.

Three kinds of failure are told apart. Trouble of the broker (no answer, no room, no permission) says nothing about the
message: it is tried again here, without end and without a count. A failure of the handler is counted. A message that
was delivered several times without an answer may have ended those who handled it: it is moved to the quarantine, where
it harms nobody (`quarantine.py`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec
import structlog
from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.util.types import AttributeValue

from libs.common import metrics, subjects
from libs.common.bus import Bus
from libs.common.dead_letters import bury, kept
from libs.common.delivery import Delivery
from libs.common.errors import (
    AlreadyExists,
    BrokerUnavailable,
    Fenced,
    MalformedMessage,
    NewerVersion,
    PinstreamError,
    PublishRefused,
    SessionCancelled,
    StreamMissing,
    Unsendable,
)
from libs.common.tally import Tally
from libs.common.telemetry import extract, mark_failed, processed, record_failed

DONE, NEVER, HANDED_BACK = b"+ACK", b"+TERM", b"-NAK"
NAK_FIRST_S, NAK_MOST_S = 0.25, 15.0
TROUBLE_FIRST_S, TROUBLE_MOST_S = 0.25, 4.0
SUSPECT_FROM = 3  # deliveries: two workers may have died of it
MAX_FAILURES = 6  # of one message's handler in one process: about ten seconds of tries
REMEMBERED_FAILURES = 10_000
FAILURES = ("failed", "quarantined", "dead_letter")  # outcomes
USUAL = (BrokerUnavailable, MalformedMessage)  # errors; those of other types are counted from when they come

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


class Answer(NamedTuple):
    """What the broker is to be told of a message, None for nothing, and what that means, for the metrics."""

    body: bytes | None
    outcome: str


class Handling:
    """Runs `handler` on deliveries of `stage`, whose subjects `template` describes, and finds each one's answer.

    A handler that returns is done with its message; one that raises Later gets it again after that delay. A message
    that cannot be read, or whose handler has failed `max_failures` times or taken longer than `limit_s`, goes to
    `gave_up`, then to the dead letters. From delivery `suspect_from` on a message goes to the quarantine unhandled.

    Each is a span where its context says so, where it comes again, and where it fails; without `spans` none is.
    """

    def __init__(
        self,
        bus: Bus,
        stage: str,
        template: str,
        handler: Handler,
        gave_up: GaveUp,
        *,
        suspect_from: int | None = None,
        max_failures: int = MAX_FAILURES,
        limit_s: float | None = None,
        spans: bool = True,
    ) -> None:
        self.bus = bus
        self.spans = spans
        self.stage, self.template = stage, template
        self.handler, self.gave_up = handler, gave_up
        self.suspect_from = suspect_from
        self.max_failures, self.limit_s = max_failures, limit_s
        self.tally = Tally()
        metrics.at_zero(metrics.stage_redelivered, stage=[stage])
        metrics.at_zero(metrics.dead_letters, stage=[stage])
        metrics.at_zero(metrics.stage_errors, stage=[stage], error=[one.__name__ for one in USUAL])
        self._failures: dict[int, int] = {}  # by stream sequence, of messages that this process has failed at

    async def answer(self, delivery: Delivery) -> bytes | None:
        """Handles a delivery; returns what the broker is to be told, None for nothing."""
        structlog.contextvars.bind_contextvars(subject=delivery.subject)
        if delivery.delivered > 1:
            metrics.stage_redelivered.add(1, {"stage": self.stage})
        began, outcome = time.perf_counter(), "stopped"
        try:
            with self.tally.working():
                body, outcome = await self._traced(delivery)
        finally:
            took_s = time.perf_counter() - began
            metrics.stage_duration.record(took_s, {"stage": self.stage, "outcome": outcome})
        return body

    async def _traced(self, delivery: Delivery) -> Answer:
        context = extract(delivery.headers)
        again = delivery.delivered > 1
        sampled = trace.get_current_span(context).get_span_context().trace_flags.sampled
        if self.spans and (sampled or again):
            attributes = self._attributes(delivery)
            with processed(self.template, delivery.subject, context, record=again, attributes=attributes):
                return await self._through_trouble(delivery)
        token, began_ns = attach(context), time.time_ns()
        try:
            answer = await self._through_trouble(delivery)
        finally:
            detach(token)
        if self.spans and answer.outcome in FAILURES:
            attributes = self._attributes(delivery)
            record_failed(self.template, delivery.subject, context, began_ns, answer.outcome, attributes)
        return answer

    def _attributes(self, delivery: Delivery) -> dict[str, AttributeValue]:
        return {
            "messaging.consumer.group.name": self.stage,
            "messaging.message.body.size": len(delivery.body),
            "pinstream.delivered": delivery.delivered,
        }

    async def _through_trouble(self, delivery: Delivery) -> Answer:
        delay_s = TROUBLE_FIRST_S
        while True:
            try:
                return await self._once(delivery)
            except (BrokerUnavailable, StreamMissing, PublishRefused) as error:
                log.warning("the broker does not take it now", subject=delivery.subject, error=str(error))
                self._note(error)
            await asyncio.sleep(random.uniform(delay_s / 2, delay_s))
            delay_s = min(delay_s * 2, TROUBLE_MOST_S)

    async def _once(self, delivery: Delivery) -> Answer:
        if self.suspect_from is not None and delivery.delivered >= self.suspect_from:
            return await self._suspect(delivery)
        scope = asyncio.timeout(self.limit_s)
        try:
            async with scope:
                await self.handler(delivery)
        except Exception as error:
            late = PinstreamError(f"it was not done within {self.limit_s:g} s") if scope.expired() else None
            return await self._after(delivery, late or error)
        self._failures.pop(delivery.sequence, None)
        return Answer(DONE, "done")

    async def _after(self, delivery: Delivery, error: Exception) -> Answer:
        answer = Answer(None, "superseded")
        match error:
            case SessionCancelled():
                answer = Answer(DONE, "cancelled")
            case Later():
                answer = Answer(_nak(error.delay_s), "later")
            case Superseded():
                log.warning("superseded", subject=delivery.subject, why=str(error))
            case NewerVersion() | AlreadyExists() | Fenced():  # a newer version another replica may know
                answer = await self._failed(delivery, error)
            case MalformedMessage() | Unsendable():
                self._note(error)
                answer = await self._bury(delivery, str(error))
            case BrokerUnavailable() | StreamMissing() | PublishRefused():
                raise error
            case _:
                answer = await self._failed(delivery, error)
        return answer

    def _note(self, error: Exception) -> None:
        metrics.stage_errors.add(1, {"stage": self.stage, "error": type(error).__name__})
        mark_failed(error)
        self.tally.failed(error)

    async def _failed(self, delivery: Delivery, error: Exception) -> Answer:
        self._note(error)
        log.warning("message not handled", subject=delivery.subject, delivered=delivery.delivered, exc_info=error)
        failures = self._failures.pop(delivery.sequence, 0) + 1
        if failures >= self.max_failures:
            why = f"{error}" if isinstance(error, PinstreamError) else f"{type(error).__name__}: {error}"
            return await self._bury(delivery, why)
        self._failures[delivery.sequence] = failures
        if len(self._failures) > REMEMBERED_FAILURES:
            del self._failures[next(iter(self._failures))]
        most = min(NAK_MOST_S, NAK_FIRST_S * 2.0 ** (failures - 1))
        return Answer(_nak(random.uniform(most / 2, most)), "failed")

    async def _suspect(self, delivery: Delivery) -> Answer:
        log.warning("a suspect goes to the quarantine", subject=delivery.subject, delivered=delivery.delivered)
        try:
            await self.bus.publish(
                subjects.suspect(self.stage, delivery.subject),
                delivery.body,
                headers=kept(delivery.headers),
                create=True,
            )
        except AlreadyExists:
            pass  # moved before, and the answer was lost
        except Unsendable as error:
            return await self._bury(delivery, str(error))
        return Answer(DONE, "quarantined")

    async def _bury(self, delivery: Delivery, why: str) -> Answer:
        """Gives a message up: its outcome first, then the letter, then the answer, so that a crash repeats it all."""
        await self._give_up(delivery, why)
        await bury(self.bus, self.stage, delivery.subject, delivery.body, delivery.headers, why)
        self._failures.pop(delivery.sequence, None)
        log.error("a message is a dead letter", subject=delivery.subject, stage=self.stage, why=why)
        return Answer(NEVER, "dead_letter")

    async def _give_up(self, delivery: Delivery, why: str) -> None:
        try:
            await self.gave_up(delivery, why)
        except MalformedMessage as error:  # not even its subject can be read, so there is no item to speak of
            log.error("a message has no item", subject=delivery.subject, error=str(error))


def _nak(delay_s: float) -> bytes:
    return HANDED_BACK + b" " + msgspec.json.encode({"delay": int(delay_s * 1e9)})
