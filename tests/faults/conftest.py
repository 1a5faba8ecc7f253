"""The stand-in site and a broker of a test's own, which may be broken."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from libs.client.broker import Broker
from libs.common.bus import Bus, connect
from libs.common.settings import Settings
from tests.fake_pinterest import RunningSite, running_site


@pytest.fixture(scope="session")
def site() -> Iterator[RunningSite]:
    """The stand-in under its own origin."""
    with running_site(latency_ms=20, cdn_latency_ms=5) as site:
        yield site


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[Bus]:
    """A connection of the test's own to it."""
    async with connect(Settings(nats_url=broker.url), "test") as bus:
        yield bus
