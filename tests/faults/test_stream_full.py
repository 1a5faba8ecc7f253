"""A stream between two services that has no room for a while."""

from __future__ import annotations

import asyncio

import pytest

from libs.client.broker import Broker
from libs.client.errors import RequestRefused
from libs.common import subjects
from libs.common.bus import Bus
from tests.fake_pinterest import RunningSite
from tests.faults.system import System
from tests.faults.watch import Watch

FULL_S = 6.0
NO_ROOM_BYTES = 1


async def resize(bus: Bus, stream: str, max_bytes: int) -> int:
    """Bounds a stream and returns what its bound was."""
    config = (await bus.api(f"STREAM.INFO.{stream}"))["config"]
    await bus.api(f"STREAM.UPDATE.{stream}", {**config, "max_bytes": max_bytes})
    return int(config["max_bytes"])


@pytest.mark.parametrize("stream", [subjects.RAW, subjects.DIRECT])
async def test_sessions_wait_while_a_stream_is_full_and_then_complete_exactly(
    site: RunningSite, broker: Broker, bus: Bus, stream: str
) -> None:
    async with System(site.origin, broker.url) as system:
        early = Watch(system.ws_url, f"tiles pins:150 seed:full-{stream.lower()} latency:100")
        await early.has(10)
        room = await resize(bus, stream, NO_ROOM_BYTES)
        late = Watch(system.ws_url, f"tiles pins:80 seed:late-{stream.lower()}")
        await late.until(lambda: late.search.session_id, "the second was accepted")
        await asyncio.sleep(FULL_S)
        assert not early.task.done()
        assert not late.task.done()
        assert late.videos == []
        if stream == subjects.RAW:
            assert is_told(early)
        await resize(bus, stream, room)
        await asyncio.gather(early.exact(), late.exact())
    assert (await bus.api(f"STREAM.INFO.{subjects.DEAD_LETTERS}"))["state"]["messages"] == 0


@pytest.mark.parametrize("stream", [subjects.RAW, subjects.DIRECT])
async def test_every_client_whose_session_waits_for_room_in_a_stream_is_told(
    site: RunningSite, broker: Broker, bus: Bus, stream: str
) -> None:
    async with System(site.origin, broker.url) as system:
        room = await resize(bus, stream, NO_ROOM_BYTES)
        watch = Watch(system.ws_url, f"tiles pins:40 seed:told-{stream.lower()}")
        try:
            await watch.until(lambda: is_told(watch), "it is told what is waited for", timeout_s=FULL_S)
        finally:
            await resize(bus, stream, room)
            await watch.exact()


def is_told(watch: Watch) -> bool:
    return any(frame.waiting_for for frame in watch.progress)


async def test_clients_are_told_while_there_is_no_room_for_results_and_nothing_is_lost(
    site: RunningSite, broker: Broker, bus: Bus
) -> None:
    async with System(site.origin, broker.url) as system:
        early = Watch(system.ws_url, "tiles pins:150 seed:full-results latency:100")
        await early.has(10)
        room = await resize(bus, subjects.RESULTS, NO_ROOM_BYTES)
        refused = Watch(system.ws_url, "tiles pins:10 seed:refused")
        with pytest.raises(RequestRefused) as why:
            await refused.task
        assert why.value.code == "unavailable"
        await early.until(lambda: is_told(early), "it is told what is waited for")
        assert not early.task.done()
        await resize(bus, subjects.RESULTS, room)
        await early.exact()
