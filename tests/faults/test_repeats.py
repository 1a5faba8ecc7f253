"""Messages that come again: published twice, in another order, redelivered after everything had forgotten them."""

from __future__ import annotations

from libs.client.broker import Broker
from libs.common import subjects
from libs.common.bus import Bus
from libs.common.streams import consumers
from tests.fake_pinterest import RunningSite
from tests.faults.copies import copies, settled
from tests.faults.system import System
from tests.faults.watch import Watch
from tests.wait import wait_for

SHORTEST_WINDOW_NS = 100_000_000  # in which the broker itself would drop a repeated message
STREAMS = (subjects.SEARCHES, subjects.RAW, subjects.DIRECT, subjects.RESULTS)


async def test_messages_published_again_and_in_another_order_change_nothing(
    site: RunningSite, broker: Broker, bus: Bus
) -> None:
    async with System(site.origin, broker.url) as system, copies(bus) as heard:
        watch = Watch(system.ws_url, "cups pins:200 size:20 seed:again latency:100")
        await watch.has(1)
        while not watch.task.done():
            await heard.again()  # while some are pending and some have been handled
        await watch.exact()
        for _ in range(2):
            await heard.again()  # RAW is empty by now: all of it is taken, and crawled, resolved, settled again
            await wait_for(lambda: settled(bus), "all handled", timeout_s=30)
        await watch.still()
    assert set(heard.accepted) == {"search.requests", "media.raw", "media.direct"}


async def test_a_redelivery_later_than_every_duplicate_window_changes_nothing(
    site: RunningSite, broker: Broker, bus: Bus
) -> None:
    async with System(site.origin, broker.url) as system, copies(bus) as heard:
        for stream in STREAMS:
            config = (await bus.api(f"STREAM.INFO.{stream}"))["config"]
            await bus.api(f"STREAM.UPDATE.{stream}", {**config, "duplicate_window": SHORTEST_WINDOW_NS})
        watch = Watch(system.ws_url, "mugs pins:200 size:20 seed:late latency:150")
        await watch.has(20)
        await start_over(bus, subjects.RAW, subjects.TRANSFORMER)
        await watch.has(45)
        await start_over(bus, subjects.RAW, subjects.TRANSFORMER)
        await watch.exact()
        await heard.again()
        await start_over(bus, subjects.RAW, subjects.TRANSFORMER)
        await wait_for(lambda: settled(bus), "all handled", timeout_s=30)
        await watch.still()


async def start_over(bus: Bus, stream: str, durable: str) -> None:
    """Has everything that `stream` still holds delivered again, as if no acknowledgement had ever come."""
    await bus.api(f"CONSUMER.DELETE.{stream}.{durable}")
    config = next(config for its, config in consumers() if (its, config["name"]) == (stream, durable))
    request = {"stream_name": stream, "config": config, "action": ""}
    await bus.api(f"CONSUMER.CREATE.{stream}.{durable}.{config['filter_subject']}", request)
