from __future__ import annotations

from libs.client.broker import Broker
from libs.common.bus import Bus
from tests.fake_pinterest import RunningSite
from tests.faults.stack import left
from tests.faults.system import System
from tests.faults.watch import Watch
from tests.wait import wait_for


async def test_without_a_fault_the_system_here_is_exact(site: RunningSite, broker: Broker) -> None:
    async with System(site.origin, broker.url) as system:
        watch = Watch(system.ws_url, "ceramic pins:200 seed:none")
        await watch.has(1)
        await watch.exact()


async def test_the_raw_media_of_a_session_that_is_over_go_though_its_client_leaves_at_once(
    site: RunningSite, broker: Broker, bus: Bus
) -> None:
    async with System(site.origin, broker.url) as system:
        watch = Watch(system.ws_url, "ceramic pins:300 seed:leaves")
        await watch.task

        async def gone() -> bool:
            return await left(bus, watch.session) == set()

        await wait_for(gone, "nothing of it is left", timeout_s=10)
