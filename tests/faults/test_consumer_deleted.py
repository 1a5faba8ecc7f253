"""A durable consumer that somebody deletes under its running service."""

from __future__ import annotations

import asyncio

import pytest

from libs.client.broker import Broker
from libs.common import subjects
from libs.common.bus import Bus
from libs.common.refusal import ApiRefused
from tests.fake_pinterest import RunningSite
from tests.faults.system import System
from tests.faults.watch import Watch
from tests.wait import wait_for

DURABLES = {
    subjects.CRAWLER: (subjects.SEARCHES, "crawler"),
    subjects.TRANSFORMER: (subjects.RAW, "transformer"),
    subjects.DEDUP: (subjects.DIRECT, "dedup"),
    subjects.DEADLINES: (subjects.RESULTS, "dedup"),
}


@pytest.mark.parametrize("durable", DURABLES)
async def test_a_consumer_deleted_in_mid_search_is_made_again_by_its_service(
    site: RunningSite, broker: Broker, bus: Bus, durable: str
) -> None:
    stream, service = DURABLES[durable]
    async with System(site.origin, broker.url) as system:
        watch = Watch(system.ws_url, f"bowls pins:120 seed:deleted-{durable} latency:100")
        await watch.has(5)
        await bus.api(f"CONSUMER.DELETE.{stream}.{durable}")
        after = Watch(system.ws_url, f"bowls pins:60 seed:after-{durable}")
        await asyncio.gather(watch.exact(), after.exact())
        await wait_for(lambda: there(bus, stream, durable), f"{durable} is there again")
        await system.ready(service)


async def there(bus: Bus, stream: str, durable: str) -> bool:
    try:
        await bus.api(f"CONSUMER.INFO.{stream}.{durable}")
    except ApiRefused:
        return False
    return True
