"""The fence where each stream has three replicas."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from libs.common import subjects
from libs.common.bus import Fence, connect
from libs.common.errors import Fenced
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, set_up
from tests.brokers import Cluster


async def test_items_emitted_together_under_one_lease_are_all_stored_by_three_replicas(
    tmp_path: Path, session: str
) -> None:
    async with Cluster(tmp_path) as cluster, connect(Settings(nats_url=cluster.url), "test") as bus:
        await set_up(bus, StreamSettings(stream_replicas=3))
        lease = await bus.publish(subjects.lease(session, "a1"), b"{}", create=True)
        fence = Fence(subjects.leases_of(session), lease)
        emitting = (bus.publish(subjects.raw(session, f"{n}-0"), b"x" * 500, fence=fence) for n in range(25))
        outcomes = await asyncio.gather(*emitting, return_exceptions=True)
        assert [outcome for outcome in outcomes if isinstance(outcome, BaseException)] == []
        newer = await bus.publish(subjects.lease(session, "a2"), b"{}", create=True)
        assert newer > lease
        with pytest.raises(Fenced):
            await bus.publish(subjects.raw(session, "99-0"), b"late", fence=fence)
