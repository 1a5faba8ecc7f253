from __future__ import annotations

import importlib

import pytest

from libs.client.doctor import PORTS, room_for
from libs.common.streams import StreamSettings


@pytest.mark.parametrize("service", ["gateway", "crawler", "transformer", "dedup"])
def test_the_port_of_every_services_health_is_looked_at(service: str) -> None:
    assert importlib.import_module(f"services.{service}.__main__").HEALTH_PORT in PORTS


def test_the_room_for_the_streams_is_by_their_bounds() -> None:
    usual = StreamSettings()
    larger = StreamSettings(results_max_bytes=usual.results_max_bytes + 3 * 2**20)
    assert usual.results_max_bytes + 4 * usual.raw_max_bytes < room_for(usual) == room_for(larger) - 4 * 2**20
