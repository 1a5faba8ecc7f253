"""The session log makes room before it is full, on a broker whose bucket holds a megabyte."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs.client.broker import running_broker
from libs.common import subjects
from libs.common.bus import Bus, connect
from libs.common.errors import BrokerUnavailable
from libs.common.messages import Kind, RequestRecord, SearchRequest, Video, VideoRecord
from libs.common.session_log import SessionLog
from libs.common.settings import Settings
from libs.common.streams import MB, StreamSettings, set_up
from services.dedup.room import ENOUGH, FULL, Room


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Bus]:
    with running_broker(tmp_path) as broker:
        async with connect(Settings(nats_url=broker.url), "test") as bus:
            await set_up(bus, StreamSettings(results_max_bytes=MB))
            yield bus


async def begun(log: SessionLog, deadline_s: float) -> str:
    """A session with a video of ten kilobytes."""
    session = secrets.token_hex(16)
    request = SearchRequest(session=session, query="q", result_limit=1, requested_at=0.0, deadline_s=deadline_s)
    await log.create(session, subjects.REQUEST, RequestRecord(request=request))
    video = Video(id="a" * 32, url="u" * 10_000, kind=Kind.MP4, verified=True)
    await log.create(session, subjects.VIDEO, VideoRecord(item="1-0", video=video), video.id)
    return session


async def share(bus: Bus) -> float:
    return float((await bus.api(f"STREAM.INFO.{subjects.RESULTS}"))["state"]["bytes"]) / MB


async def test_the_oldest_sessions_that_are_over_go_when_it_is_nearly_full(small: Bus) -> None:
    log, room = SessionLog(small), Room(small, spare_s=-5.0)
    over = [await begun(log, deadline_s=0.0) for _ in range(40)]
    assert await room.make() == 0
    while await share(small) < FULL:
        over.append(await begun(log, deadline_s=0.0))
    gone = await room.make()
    assert 0 < gone < len(over)
    assert await share(small) < ENOUGH
    assert [session for session in over if await log.get(session, subjects.REQUEST) is None] == over[:gone]


async def test_room_that_was_made_by_half_is_made_in_the_end(small: Bus) -> None:
    log = SessionLog(small)
    session = await begun(log, deadline_s=0.0)
    removed: list[int] = []
    remove = small.remove

    async def dying(stream: str, sequence: int) -> bool:
        if removed:
            raise BrokerUnavailable("gone")
        removed.append(sequence)
        return await remove(stream, sequence)

    small.remove = dying  # type: ignore[method-assign]
    with pytest.raises(BrokerUnavailable):
        await small.purge(subjects.RESULTS, subjects.records_of(session))
    assert await log.get(session, subjects.REQUEST) is not None
    small.remove = remove  # type: ignore[method-assign]
    await small.purge(subjects.RESULTS, subjects.records_of(session))
    assert (await small.subjects_under(subjects.RESULTS, subjects.records_of(session)))[0] == set()


async def test_a_foreign_key_is_nobodys_session(small: Bus) -> None:
    log, room = SessionLog(small), Room(small, spare_s=-5.0)
    await small.publish("$KV.results.a=b.request", b"{}", create=True)
    while await share(small) < FULL:
        await begun(log, deadline_s=0.0)
    assert await room.make() > 0


async def test_a_session_before_its_deadline_stays_whatever_the_room(small: Bus) -> None:
    log, room = SessionLog(small), Room(small, spare_s=0.0)
    open_ = [await begun(log, deadline_s=600.0)]
    while await share(small) < FULL:
        open_.append(await begun(log, deadline_s=600.0))
    assert await room.make() == 0
    assert await log.get(open_[0], subjects.REQUEST) is not None
