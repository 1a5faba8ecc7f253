"""Three servers: what is kept when the leader of a stream dies."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from libs.common import subjects
from libs.common.bus import connect
from libs.common.errors import AlreadyExists
from libs.common.messages import UnavailableRecord
from libs.common.session_log import SessionLog
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, set_up
from tests.brokers import VERSIONS, Cluster, binary


@pytest.mark.parametrize("version", VERSIONS)
async def test_no_record_is_lost_when_the_leader_dies(tmp_path: Path, version: str, session: str) -> None:
    many = 300
    async with (
        Cluster(tmp_path, server=binary(version)) as cluster,
        connect(Settings(nats_url=cluster.url), "test") as bus,
    ):
        await set_up(bus, StreamSettings(stream_replicas=3))
        log = SessionLog(bus)
        leader = await cluster.leader(bus, subjects.RESULTS)

        async def write(n: int) -> None:
            with suppress(AlreadyExists):  # stored, and its acknowledgement lost
                await log.create(session, subjects.UNAVAILABLE, UnavailableRecord(item=f"{n}-0", reason="x"), f"{n}-0")

        async with asyncio.TaskGroup() as group:
            for n in range(many):
                group.create_task(write(n))
                if n == many // 2:
                    await asyncio.sleep(0)
                    leader.kill()
        assert await cluster.leader(bus, subjects.RESULTS) is not leader
        leader.launch()
        await cluster.answering(10.0)
        assert len((await log.state(session)).outcomes) == many
