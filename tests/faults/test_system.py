from __future__ import annotations

from libs.client.broker import Broker
from tests.fake_pinterest import RunningSite
from tests.faults.system import System
from tests.faults.watch import Watch


async def test_without_a_fault_the_system_here_is_exact(site: RunningSite, broker: Broker) -> None:
    async with System(site.origin, broker.url) as system:
        watch = Watch(system.ws_url, "ceramic pins:200 seed:none")
        await watch.has(1)
        await watch.exact()
