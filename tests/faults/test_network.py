"""The network between the services and the broker: cut, black-holed, slow."""

from __future__ import annotations

import asyncio

import pytest

from libs.client.broker import Broker
from tests.fake_pinterest import RunningSite
from tests.faults.system import SERVICES, System
from tests.faults.watch import Watch
from tests.tcp_proxy import TcpProxy

AWAY_S = 30.0


async def test_a_broker_that_nobody_reaches_for_half_a_minute_costs_nothing(site: RunningSite, broker: Broker) -> None:
    async with (
        TcpProxy(("127.0.0.1", broker.port)) as network,
        System(site.origin, network.url) as system,
    ):
        watch = Watch(system.ws_url, "teapots pins:200 seed:away latency:100")
        await watch.has(5)
        await network.cut()
        unready = asyncio.gather(*(system.ready(service, ready=False) for service in SERVICES))
        await asyncio.gather(unready, asyncio.sleep(AWAY_S))
        await network.mend()
        await watch.exact()
        await asyncio.gather(*(system.ready(service) for service in SERVICES))


@pytest.mark.parametrize("service", SERVICES)
async def test_a_network_cut_between_one_service_and_the_broker_costs_nothing(
    site: RunningSite, broker: Broker, service: str
) -> None:
    async with (
        TcpProxy(("127.0.0.1", broker.port)) as network,
        System(site.origin, broker.url, urls={service: network.url}) as system,
    ):
        watch = Watch(system.ws_url, f"plates pins:200 seed:cut-{service} latency:100")
        await watch.has(5)
        await network.cut()
        await system.ready(service, ready=False)
        await network.mend()
        await watch.exact()
        await system.ready(service)


async def test_connections_on_which_nothing_comes_any_more_are_noticed_by_every_service(
    site: RunningSite, broker: Broker
) -> None:
    async with (
        TcpProxy(("127.0.0.1", broker.port)) as network,
        System(site.origin, network.url) as system,
    ):
        watch = Watch(system.ws_url, "jugs pins:200 seed:hole latency:100")
        await watch.has(5)
        await network.cut(hole=True)
        await asyncio.gather(*(system.ready(service, ready=False) for service in SERVICES))
        await network.mend()
        await watch.exact()


async def test_a_slow_broker_costs_time_and_nothing_else(site: RunningSite, broker: Broker) -> None:
    async with (
        TcpProxy(("127.0.0.1", broker.port)) as network,
        System(site.origin, network.url) as system,
    ):
        network.slow(latency_s=0.1)
        watch = Watch(system.ws_url, "saucers pins:100 seed:slow")
        await watch.has(1)
        await watch.exact()
