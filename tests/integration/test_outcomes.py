from __future__ import annotations

import asyncio

from libs.common import subjects
from libs.common.cancelled import Cancelled
from libs.common.messages import (
    CrawledRecord,
    DirectMedia,
    Kind,
    Reason,
    RepeatRecord,
    RequestRecord,
    SearchRequest,
    UnavailableRecord,
    Video,
    VideoRecord,
)
from libs.common.session_log import SessionLog
from services.dedup.deadline import Deadlines
from services.dedup.outcome import Outcomes


def direct(session: str, item: str, signature: str) -> DirectMedia:
    video = Video(id=signature, url="https://v1.pinimg.com/x.mp4", kind=Kind.MP4, verified=True)
    return DirectMedia(session=session, item=item, video=video)


async def outcomes_of(log: SessionLog, session: str) -> dict[str, type]:
    found: dict[str, type] = {}
    async for record in log.read(session):
        if isinstance(record.message, VideoRecord | RepeatRecord | UnavailableRecord):
            assert record.message.item not in found, "two outcomes for one item"
            found[record.message.item] = type(record.message)
    return found


async def test_the_first_item_of_a_signature_is_the_video_and_the_others_repeats(log: SessionLog, session: str) -> None:
    outcomes = Outcomes(log, Cancelled())
    await asyncio.gather(*(outcomes.settle(direct(session, f"{n}-0", "ab")) for n in range(20)))
    kinds = list((await outcomes_of(log, session)).values())
    assert kinds.count(VideoRecord) == 1
    assert kinds.count(RepeatRecord) == 19


async def test_a_redelivery_changes_nothing_however_late(log: SessionLog, session: str) -> None:
    outcomes = Outcomes(log, Cancelled())
    given = [direct(session, "1-0", "ab"), direct(session, "2-0", "ab"), direct(session, "3-0", "cd")]
    given.append(DirectMedia(session=session, item="4-0", unavailable="no_media"))
    for _ in range(3):
        for one in given:
            await outcomes.settle(one)
    assert await outcomes_of(log, session) == {
        "1-0": VideoRecord,
        "2-0": RepeatRecord,
        "3-0": VideoRecord,
        "4-0": UnavailableRecord,
    }


async def test_the_same_video_is_new_in_another_session(log: SessionLog, session: str) -> None:
    outcomes = Outcomes(log, Cancelled())
    await outcomes.settle(direct(session, "1-0", "ab"))
    await outcomes.settle(direct(session + "x", "1-0", "ab"))
    assert await outcomes_of(log, session + "x") == {"1-0": VideoRecord}


async def test_at_the_deadline_an_abandoned_session_is_completed_with_what_was_found(
    log: SessionLog, session: str
) -> None:
    outcomes = Outcomes(log, Cancelled())
    request = SearchRequest(session=session, query="q", result_limit=9, requested_at=0.0)
    await log.create(session, subjects.REQUEST, RequestRecord(request=request))
    for item in ("1-0", "2-0", "3-0"):
        await log.bus.publish(subjects.raw(session, item), b"{}")
    await outcomes.settle(direct(session, "1-0", "ab"))
    await asyncio.gather(*(Deadlines(log, outcomes).close(session, set()) for _ in range(2)))
    state = await log.state(session)
    assert state.complete
    assert state.crawled is not None
    assert (str(state.crawled.reason), state.crawled.items) == ("deadline", 3)
    assert (state.videos, state.unavailable) == (1, 2)


async def test_at_the_deadline_items_that_nothing_is_left_of_get_an_outcome_too(log: SessionLog, session: str) -> None:
    outcomes = Outcomes(log, Cancelled())
    request = SearchRequest(session=session, query="q", result_limit=9, requested_at=0.0)
    await log.create(session, subjects.REQUEST, RequestRecord(request=request))
    await outcomes.settle(direct(session, "1-0", "ab"))
    await log.create(session, subjects.CRAWLED, CrawledRecord(reason=Reason.EXHAUSTED, items=4))
    await Deadlines(log, outcomes).close(session, {"1-0", "2-0"})
    state = await log.state(session)
    assert state.complete
    assert (state.videos, state.unavailable) == (1, 3)
