from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from libs.common import subjects
from libs.common.bus import Bus, Stored
from libs.common.delivery import Delivery
from libs.common.errors import MalformedMessage
from libs.common.handling import MAX_FAILURES, GaveUp, Handler, Handling, Later
from libs.common.pull import PullLoop
from tests.wait import wait_until

ACK_WAIT_S = 1.0


class Queue(NamedTuple):
    """A work queue of this test's own."""

    bus: Bus
    name: str

    async def add(self, *bodies: bytes) -> None:
        """Puts one message a body into the queue."""
        for body in bodies:
            await self.bus.publish(f"{self.name}.{body.decode()}", body)

    async def pending(self) -> int:
        """How many messages the queue still holds."""
        return int((await self.bus.api(f"STREAM.INFO.{self.name}"))["state"]["messages"])

    def loop(self, handler: Handler, slots: int = 8, gave_up: GaveUp | None = None, **more: Any) -> PullLoop:
        """A pull loop on it whose given-up messages are only buried."""

        async def nothing(_delivery: Delivery, _why: str) -> None: ...

        handling = Handling(self.bus, "worker", "test.{n}", handler, gave_up or nothing, **more)
        return PullLoop(self.bus, self.name, "worker", handling, slots=slots, ack_wait_s=ACK_WAIT_S)


@pytest.fixture
async def queue(bus: Bus) -> AsyncIterator[Queue]:
    name = f"Q{secrets.token_hex(4)}"
    stream = {"name": name, "subjects": [f"{name}.*"], "retention": "workqueue", "storage": "memory"}
    await bus.api(f"STREAM.CREATE.{name}", stream)
    durable = {"durable_name": "worker", "ack_policy": "explicit", "ack_wait": int(ACK_WAIT_S * 1e9)}
    await bus.api(f"CONSUMER.CREATE.{name}.worker", {"stream_name": name, "config": {**durable, "name": "worker"}})
    yield Queue(bus, name)
    await bus.api(f"STREAM.DELETE.{name}")


class Running:
    """A pull loop that runs inside the block."""

    def __init__(self, loop: PullLoop, drain_s: float = 2.0) -> None:
        self.loop, self.drain_s = loop, drain_s
        self.stop = asyncio.Event()

    async def __aenter__(self) -> Running:
        self.task = asyncio.create_task(self.loop.run(self.stop, self.drain_s))
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.stop.set()
        await self.task


async def test_every_message_is_handled_once_and_gone(queue: Queue) -> None:
    seen: Counter[bytes] = Counter()

    async def handler(delivery: Delivery) -> None:
        seen[delivery.body] += 1

    wanted = [f"m{n}".encode() for n in range(300)]
    async with Running(queue.loop(handler)):
        await queue.add(*wanted)
        await wait_until(lambda: len(seen) == 300, "all handled")
    assert set(seen.values()) == {1}
    assert await queue.pending() == 0


async def test_no_more_than_the_slots_are_handled_at_once(queue: Queue) -> None:
    most, now, done = 0, 0, 0

    async def handler(_delivery: Delivery) -> None:
        nonlocal most, now, done
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        await queue.bus.client.flush()
        now -= 1
        done += 1

    await queue.add(*(f"m{n}".encode() for n in range(60)))
    async with Running(queue.loop(handler, slots=4)):
        await wait_until(lambda: done == 60, "all handled")
    assert most == 4


async def test_a_failed_message_comes_again_and_its_neighbours_go_on(queue: Queue) -> None:
    tries: Counter[bytes] = Counter()

    async def handler(delivery: Delivery) -> None:
        tries[delivery.body] += 1
        if delivery.body == b"bad" and tries[b"bad"] < 3:
            raise RuntimeError("not yet")

    async with Running(queue.loop(handler)):
        await queue.add(b"bad", b"good")
        await wait_until(lambda: tries[b"bad"] == 3, "the bad one was tried three times")
    assert tries[b"good"] == 1
    assert await queue.pending() == 0


async def test_a_message_put_off_comes_again_after_its_delay(queue: Queue) -> None:
    times: list[float] = []

    async def handler(_delivery: Delivery) -> None:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            raise Later(0.4)

    async with Running(queue.loop(handler)):
        await queue.add(b"m")
        await wait_until(lambda: len(times) == 2, "it came again")
    assert times[1] - times[0] >= 0.39


async def test_work_longer_than_the_ack_wait_is_not_given_to_another(queue: Queue) -> None:
    release, deliveries = asyncio.Event(), 0

    async def handler(_delivery: Delivery) -> None:
        nonlocal deliveries
        deliveries += 1
        await release.wait()

    async with Running(queue.loop(handler)):
        await queue.add(b"slow")
        await wait_until(lambda: deliveries == 1, "delivered")
        with pytest.raises(AssertionError):
            await wait_until(lambda: deliveries > 1, "a second delivery", timeout_s=ACK_WAIT_S * 2.5)
        release.set()
    assert await queue.pending() == 0


async def test_what_cannot_be_read_is_kept_as_a_dead_letter_with_its_headers(queue: Queue) -> None:
    async def handler(_delivery: Delivery) -> None:
        raise MalformedMessage("no message")

    subject = f"{queue.name}.broken"
    async with Running(queue.loop(handler)):
        await queue.bus.publish(subject, b"\xff", headers={"traceparent": "kept"})
        letter = subjects.dead_letter("worker", subject)
        found: list[Stored] = []

        async def look() -> None:
            while not found:
                stored = await queue.bus.last(subjects.DEAD_LETTERS, letter)
                found.extend([stored] if stored else [])

        async with asyncio.timeout(10):
            await look()
    assert found[0].body == b"\xff"
    assert await queue.pending() == 0


async def test_stopping_hands_back_at_once_what_does_not_finish(queue: Queue) -> None:
    started = asyncio.Event()

    async def stuck(_delivery: Delivery) -> None:
        started.set()
        await asyncio.Event().wait()

    taken: list[float] = []

    async def quick(_delivery: Delivery) -> None:
        taken.append(asyncio.get_running_loop().time())

    async with Running(queue.loop(stuck), drain_s=0.1):
        await queue.add(b"m")
        await started.wait()
    stopped = asyncio.get_running_loop().time()
    async with Running(queue.loop(quick)):
        await wait_until(lambda: bool(taken), "another took it")
    assert taken[0] - stopped < ACK_WAIT_S / 2


async def test_a_deleted_consumer_turns_the_loop_unready_and_it_heals(queue: Queue) -> None:
    seen: list[bytes] = []

    async def handler(delivery: Delivery) -> None:
        seen.append(delivery.body)

    async with Running(queue.loop(handler)) as running:
        await queue.add(b"one")
        await wait_until(lambda: seen == [b"one"], "the first")
        await queue.bus.api(f"CONSUMER.DELETE.{queue.name}.worker")
        await wait_until(lambda: not running.loop.alive, "readiness failed")
        durable = {"durable_name": "worker", "name": "worker", "ack_policy": "explicit"}
        await queue.bus.api(f"CONSUMER.CREATE.{queue.name}.worker", {"stream_name": queue.name, "config": durable})
        await queue.add(b"two")
        await wait_until(lambda: seen == [b"one", b"two"], "the second")
        await wait_until(lambda: running.loop.alive, "ready again")


async def test_what_has_no_readable_item_is_buried_all_the_same(queue: Queue) -> None:
    async def handler(_delivery: Delivery) -> None:
        raise MalformedMessage("no message")

    async def gave_up(_delivery: Delivery, _why: str) -> None:
        raise MalformedMessage("no item")

    async with Running(queue.loop(handler, gave_up=gave_up)):
        await queue.add(b"x")
        remaining = 1
        async with asyncio.timeout(10):
            while remaining:
                remaining = await queue.pending()


async def test_deliveries_that_an_outage_used_up_do_not_bury_a_message(queue: Queue) -> None:
    tries = 0

    async def handler(_delivery: Delivery) -> None:
        nonlocal tries
        tries += 1
        if tries <= MAX_FAILURES:
            raise Later(0.01)
        if tries == MAX_FAILURES + 1:
            raise RuntimeError("one failure of its own")

    async with Running(queue.loop(handler)):
        await queue.add(b"m")
        await wait_until(lambda: tries == MAX_FAILURES + 2, "it was tried again")
    assert await queue.bus.last(subjects.DEAD_LETTERS, subjects.dead_letter("worker", f"{queue.name}.m")) is None


async def test_a_stream_that_is_made_again_is_pulled_from_again(queue: Queue) -> None:
    seen: list[bytes] = []

    async def handler(delivery: Delivery) -> None:
        seen.append(delivery.body)

    async with Running(queue.loop(handler)):
        await queue.add(b"one")
        await wait_until(lambda: seen == [b"one"], "the first")
        await queue.bus.api(f"STREAM.DELETE.{queue.name}")
        stream = {"name": queue.name, "subjects": [f"{queue.name}.*"], "retention": "workqueue", "storage": "memory"}
        await queue.bus.api(f"STREAM.CREATE.{queue.name}", stream)
        durable = {"durable_name": "worker", "name": "worker", "ack_policy": "explicit"}
        await queue.bus.api(f"CONSUMER.CREATE.{queue.name}.worker", {"stream_name": queue.name, "config": durable})
        await queue.add(b"two")
        await wait_until(lambda: seen == [b"one", b"two"], "the second", timeout_s=30)


async def test_a_message_as_large_as_the_broker_takes_can_be_buried(queue: Queue) -> None:
    async def handler(_delivery: Delivery) -> None:
        raise MalformedMessage("no message")

    async with Running(queue.loop(handler)):
        await queue.bus.publish(f"{queue.name}.large", b"x" * (queue.bus.client.max_payload - 100))
        remaining = 1
        async with asyncio.timeout(10):
            while remaining:
                remaining = await queue.pending()
    letter = await queue.bus.last(subjects.DEAD_LETTERS, subjects.dead_letter("worker", f"{queue.name}.large"))
    assert letter is not None
