"""What the connection, the pull loop and the tail do when nats-server dies and comes back from its file store."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import aclosing, suppress

from libs.client.broker import Broker
from libs.common import subjects
from libs.common.bus import connect
from libs.common.delivery import Delivery
from libs.common.errors import AlreadyExists
from libs.common.handling import Handling
from libs.common.messages import DirectMedia, Kind, UnavailableRecord, Video, decode, encode
from libs.common.pull import PullLoop
from libs.common.session_log import session_log
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, set_up
from tests.wait import wait_until


async def test_nothing_is_lost_or_repeated_when_the_broker_is_killed_again_and_again(broker: Broker) -> None:
    session, many = secrets.token_hex(16), 600
    async with connect(Settings(nats_url=broker.url), "test") as bus:
        await set_up(bus, StreamSettings())
        async with session_log(bus) as log:
            handled: set[str] = set()

            async def handler(delivery: Delivery) -> None:
                direct = decode(delivery.body, DirectMedia)
                handled.add(direct.item)

            async def gave_up(_delivery: Delivery, why: str) -> None:
                raise AssertionError(why)

            handling = Handling(bus, subjects.DEDUP, "t", handler, gave_up)
            loop = PullLoop(bus, subjects.DIRECT, subjects.DEDUP, handling, slots=64, ack_wait_s=10.0)
            stop = asyncio.Event()
            pulling = asyncio.create_task(loop.run(stop, 2.0))
            followed: list[int] = []

            async def follow() -> None:
                async with aclosing(log.follow(session)) as records:
                    async for record in records:
                        followed.append(record.sequence)

            following = asyncio.create_task(follow())

            async def publish(n: int) -> int:
                video = Video(id=f"{n:032x}", url="u", kind=Kind.MP4, verified=True)
                direct = DirectMedia(session=session, item=f"{n}-0", video=video)
                with suppress(AlreadyExists):
                    await bus.publish(subjects.direct(session, f"{n}-0"), encode(direct))
                record = UnavailableRecord(item=direct.item, reason="x")
                with suppress(AlreadyExists):  # the first try was stored, and its acknowledgement lost
                    return await log.create(session, subjects.UNAVAILABLE, record, direct.item)
                stored = await log.get(session, subjects.UNAVAILABLE, direct.item)
                assert stored is not None
                return stored.sequence

            written: list[int] = []
            for first in range(0, many, 100):
                batch = asyncio.gather(*(publish(n) for n in range(first, first + 100)))
                broker.kill()
                broker.start()
                written += await batch
            await wait_until(lambda: len(handled) == many, "all handled", timeout_s=60)
            await wait_until(lambda: followed and followed[-1] >= max(written), "all followed", timeout_s=60)
            assert followed == sorted(set(followed))
            assert set(followed) >= set(written)
            await wait_until(lambda: loop.alive and log.tail.alive, "ready again")
            stop.set()
            await pulling
            following.cancel()


async def test_readiness_fails_while_the_broker_is_away(broker: Broker) -> None:
    async with connect(Settings(nats_url=broker.url), "test") as bus:
        await set_up(bus, StreamSettings())
        async with session_log(bus) as log:
            await wait_until(lambda: log.tail.alive, "ready")
            broker.kill()
            await wait_until(lambda: not log.tail.alive, "not ready")
            broker.start()
            await wait_until(lambda: log.tail.alive, "ready again")
