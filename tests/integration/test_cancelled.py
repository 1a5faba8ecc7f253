"""What a cancel ends in the process that is told of it."""

from __future__ import annotations

import asyncio

import pytest

from libs.common import subjects
from libs.common.bus import Bus
from libs.common.cancelled import Cancelled
from libs.common.delivery import Delivery
from libs.common.errors import SessionCancelled
from libs.common.messages import DirectMedia, Pin, RawMedia, encode
from services.transformer.transform import Transform
from tests.wait import wait_until


def delivered(session: str, item: str) -> Delivery:
    raw = RawMedia(session=session, item=item, signature="a" * 32, pin=Pin())
    return Delivery(subjects.raw(session, item), encode(raw), {}, 1, 1, 1, 0.0, "")


async def test_items_in_hand_are_left_at_once_and_those_that_come_later_are_not_begun(bus: Bus, session: str) -> None:
    resolving: list[str] = []
    left: list[str] = []

    async def resolve(raw: RawMedia) -> DirectMedia:
        resolving.append(raw.item)
        try:
            await asyncio.Event().wait()
        finally:
            left.append(raw.item)
        raise AssertionError

    cancelled = Cancelled()
    await cancelled.listen(bus)
    transform = Transform(bus, cancelled, resolve)
    other = asyncio.create_task(transform.handle(delivered("f" * 32, "9-0")))
    work = [asyncio.create_task(transform.handle(delivered(session, f"{n}-0"))) for n in range(5)]
    await wait_until(lambda: len(resolving) == 6, "all are being resolved")
    for _ in range(2):  # told twice, by two gateways
        await bus.tell(subjects.cancel(session))
    async with asyncio.timeout(1):
        outcomes = await asyncio.gather(*work, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [SessionCancelled] * 5
    assert sorted(left) == [f"{n}-0" for n in range(5)]
    with pytest.raises(SessionCancelled):
        await transform.handle(delivered(session, "7-0"))
    assert "7-0" not in resolving
    assert not other.done()
    other.cancel()
    await asyncio.wait({other})
    assert await bus.last(subjects.DIRECT, subjects.direct(session, "1-0")) is None


async def test_a_time_out_of_ones_own_is_not_taken_for_a_cancel(bus: Bus, session: str) -> None:
    cancelled = Cancelled()
    await cancelled.listen(bus)
    with pytest.raises(TimeoutError):
        async with cancelled.stopping(session):
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
