"""A video is given once in a scope: every order in which two sessions, and their deaths, can meet."""

from __future__ import annotations

import asyncio
import time

import pytest

from libs.common import subjects
from libs.common.bus import Fence
from libs.common.cancelled import Cancelled
from libs.common.messages import (
    CrawledRecord,
    DirectMedia,
    Kind,
    Message,
    Reason,
    RepeatRecord,
    RequestRecord,
    SearchRequest,
    SeenRecord,
    UnavailableRecord,
    Video,
    VideoRecord,
    decode,
)
from libs.common.session_log import SessionLog
from services.dedup.deadline import Deadlines
from services.dedup.outcome import Outcomes
from services.dedup.seen import Claim
from services.gateway.sessions import Sessions

SIGNATURE = "737c64f1ec9401ae9d71c55877e9a129"


class Scope:
    """A scope of this test's own, its sessions, and one dedup that serves them."""

    def __init__(self, log: SessionLog, name: str) -> None:
        self.log, self.name = log, name
        self.outcomes = Outcomes(log, Cancelled())
        self.seen = self.outcomes.seen
        self.seen.patience_s = 1.0

    def session(self, label: str) -> str:
        return f"{self.name}-{label}"

    async def begin(self, label: str) -> str:
        session = self.session(label)
        request = SearchRequest(session=session, query="q", result_limit=9, requested_at=time.time(), scope=self.name)
        await self.log.create(session, subjects.REQUEST, RequestRecord(request=request))
        return session

    async def settle(self, session: str, item: str = "1-0", signature: str = SIGNATURE) -> Message | None:
        """Settles as dedup does; returns the outcome."""
        video = Video(id=signature, url="u", kind=Kind.MP4, verified=True)
        await self.outcomes.settle(DirectMedia(session=session, item=item, video=video))
        return await self.outcome(session, item)

    async def outcome(self, session: str, item: str = "1-0") -> Message | None:
        found = [record.message async for record in self.log.read(session)]
        mine = [
            one for one in found if isinstance(one, VideoRecord | RepeatRecord | UnavailableRecord) and one.item == item
        ]
        assert len(mine) < 2, "two outcomes for one item"
        return mine[0] if mine else None

    async def claim(self, session: str, item: str = "1-0") -> Claim:
        """The first of the three writes alone, as of one that dies after it."""
        claim = await self.seen.claim(self.name, SIGNATURE, session, item)
        assert claim is not None
        return claim

    async def write_video(self, session: str, item: str = "1-0") -> None:
        """The second alone."""
        video = Video(id=SIGNATURE, url="u", kind=Kind.MP4, verified=True)
        await self.log.create(session, subjects.VIDEO, VideoRecord(item=item, video=video), SIGNATURE)

    async def over(self, session: str, items: int = 0) -> None:
        await self.log.create(session, subjects.CRAWLED, CrawledRecord(reason=Reason.EXHAUSTED, items=items))

    async def held(self) -> SeenRecord:
        stored = await self.log.bus.last(subjects.SEEN, subjects.seen(self.name, SIGNATURE))
        assert stored is not None
        return decode(stored.body, SeenRecord)

    async def given(self) -> int:
        """In how many sessions of the scope the video counts."""
        count = 0
        for label in ("a", "b", "c"):
            count += (await self.log.state(self.session(label))).videos
        return count


@pytest.fixture
def scope(log: SessionLog, session: str) -> Scope:
    return Scope(log, f"scope-{session[:16]}")


SEEN = RepeatRecord(item="1-0", signature=SIGNATURE, seen=True)


async def test_the_second_session_of_a_scope_is_given_only_what_is_new(scope: Scope) -> None:
    first, second = await scope.begin("a"), await scope.begin("b")
    assert isinstance(await scope.settle(first), VideoRecord)
    assert await scope.settle(second) == SEEN
    assert isinstance(await scope.settle(second, "2-0", "ab" * 16), VideoRecord)
    assert isinstance(await scope.settle(first, "2-0"), RepeatRecord)
    state = await scope.log.state(second)
    assert (state.videos, state.seen, state.repeats) == (1, 1, 0)
    assert (await scope.held()) == SeenRecord(session=first, item="1-0", given=True)


async def test_another_scope_and_no_scope_know_nothing_of_it(scope: Scope, log: SessionLog, session: str) -> None:
    await scope.settle(await scope.begin("a"))
    other = Scope(log, f"other-{session[:16]}")
    assert isinstance(await other.settle(await other.begin("a")), VideoRecord)
    plain = SearchRequest(session=session, query="q", result_limit=9, requested_at=0.0)
    await log.create(session, subjects.REQUEST, RequestRecord(request=plain))
    assert isinstance(await scope.settle(session), VideoRecord)


async def test_redeliveries_change_nothing_at_whichever_write_a_worker_died(scope: Scope) -> None:
    session, other = await scope.begin("a"), await scope.begin("b")
    await scope.claim(session)
    assert isinstance(await scope.settle(session), VideoRecord)  # died after the claim
    assert (await scope.held()).given
    assert isinstance(await scope.settle(session), VideoRecord)  # died before its answer
    assert await scope.settle(other) == SEEN
    assert await scope.settle(other) == SEEN
    assert await scope.given() == 1


async def test_a_worker_that_died_before_it_marked_its_claim_marks_it_when_the_item_comes_again(scope: Scope) -> None:
    session = await scope.begin("a")
    await scope.claim(session)
    await scope.write_video(session)
    await scope.settle(session)
    assert (await scope.held()).given


async def test_a_claim_that_its_dead_worker_did_not_mark_counts_where_the_video_was_given(scope: Scope) -> None:
    first, second = await scope.begin("a"), await scope.begin("b")
    await scope.claim(first)
    await scope.write_video(first)
    assert await scope.settle(second) == SEEN
    assert (await scope.held()) == SeenRecord(session=first, item="1-0", given=True)


@pytest.mark.parametrize("ending", ["cancel", "deadline", "end"])
async def test_what_a_session_claimed_and_never_gave_the_next_one_gets(scope: Scope, ending: str) -> None:
    first, second = await scope.begin("a"), await scope.begin("b")
    await scope.claim(first)
    if ending == "cancel":
        await Sessions(scope.log, 600.0).cancel(first)
    elif ending == "deadline":
        await scope.log.bus.publish(subjects.raw(first, "1-0"), b"{}")
        await Deadlines(scope.log, scope.outcomes).close(first, set())
    else:
        await scope.over(first)
    assert isinstance(await scope.settle(second), VideoRecord)
    assert (await scope.held()) == SeenRecord(session=second, item="1-0", given=True)
    assert await scope.given() == 1


async def test_a_video_recorded_after_its_session_was_over_was_given_to_nobody(scope: Scope) -> None:
    first, second = await scope.begin("a"), await scope.begin("b")
    claim = await scope.claim(first)
    await Sessions(scope.log, 600.0).cancel(first)
    await scope.write_video(first)  # of a worker that stalled
    await scope.seen.given(claim, SIGNATURE, "1-0")
    assert not (await scope.held()).given
    assert isinstance(await scope.settle(second), VideoRecord)
    await scope.seen.given(claim, SIGNATURE, "1-0")  # stalled once more
    assert (await scope.held()).session == second
    assert await scope.given() == 1


async def test_a_video_that_completes_its_session_is_given(scope: Scope) -> None:
    first, second = await scope.begin("a"), await scope.begin("b")
    await scope.over(first, items=1)
    assert isinstance(await scope.settle(first), VideoRecord)
    assert (await scope.log.state(first)).complete
    assert (await scope.held()).given
    assert await scope.settle(second) == SEEN


async def test_an_outcome_that_came_first_keeps_a_late_video_from_being_marked(scope: Scope) -> None:
    first, second = await scope.begin("a"), await scope.begin("b")
    await scope.log.create(first, subjects.REPEAT, SEEN, "1-0")
    claim = await scope.claim(first)
    await scope.write_video(first)
    await scope.seen.given(claim, SIGNATURE, "1-0")
    await scope.over(first)
    assert isinstance(await scope.settle(second), VideoRecord)
    assert await scope.given() == 1


async def test_who_meets_a_claim_of_a_running_session_waits_for_what_becomes_of_it(scope: Scope) -> None:
    first, second, third = [await scope.begin(label) for label in "abc"]
    await scope.claim(first)
    scope.seen.patience_s = 20.0
    waiting = asyncio.create_task(scope.settle(second))
    await asyncio.wait({waiting}, timeout=0.3)
    assert not waiting.done()
    await scope.settle(first)
    assert await waiting == SEEN
    other = "cd" * 16
    assert await scope.seen.claim(scope.name, other, first, "2-0") is not None
    waiting = asyncio.create_task(scope.settle(third, "2-0", other))
    await asyncio.wait({waiting}, timeout=0.3)
    assert not waiting.done()
    await Sessions(scope.log, 600.0).cancel(first)
    assert isinstance(await waiting, VideoRecord)


async def test_who_waited_in_vain_counts_it_as_seen_and_it_is_not_lost_to_the_scope(scope: Scope) -> None:
    first, second, third = [await scope.begin(label) for label in "abc"]
    await scope.claim(first)
    scope.seen.patience_s = 0.1
    assert await scope.settle(second) == SEEN
    await Sessions(scope.log, 600.0).cancel(first)
    assert isinstance(await scope.settle(third), VideoRecord)
    assert await scope.given() == 1


async def test_two_items_of_one_session_are_a_video_and_a_repeat_whichever_of_them_claimed(scope: Scope) -> None:
    session = await scope.begin("a")
    await scope.claim(session, "1-0")  # and its worker died
    assert isinstance(await scope.settle(session, "2-0"), VideoRecord)
    repeat = await scope.settle(session, "1-0")
    assert repeat == RepeatRecord(item="1-0", signature=SIGNATURE)
    assert (await scope.held()).given


async def test_many_at_once_give_it_once(scope: Scope) -> None:
    sessions = [await scope.begin(label) for label in "abc"]
    others = Outcomes(scope.log, Cancelled())
    video = Video(id=SIGNATURE, url="u", kind=Kind.MP4, verified=True)
    directs = [DirectMedia(session=one, item=f"{n}-0", video=video) for one in sessions for n in range(8)]
    await asyncio.gather(*(outcomes.settle(one) for one in directs for outcomes in (scope.outcomes, others)))
    assert await scope.given() == 1
    states = [await scope.log.state(one) for one in sessions]
    assert sum(state.seen for state in states) == 16
    assert sum(state.repeats for state in states) == 7


async def test_of_several_who_take_over_one_gets_it(scope: Scope) -> None:
    first, second, third = [await scope.begin(label) for label in "abc"]
    await scope.claim(first)
    await scope.over(first)
    outcomes = await asyncio.gather(scope.settle(second), scope.settle(third))
    assert sorted(type(one).__name__ for one in outcomes) == ["RepeatRecord", "VideoRecord"]


async def test_what_was_given_stays_known_when_its_sessions_log_is_gone(scope: Scope) -> None:
    first, second = await scope.begin("a"), await scope.begin("b")
    await scope.settle(first)
    await scope.log.bus.purge(subjects.RESULTS, subjects.records_of(first))
    assert await scope.settle(second) == SEEN
    assert (await scope.held()).session == first


async def test_a_claim_of_a_session_of_which_nothing_is_left_is_void(scope: Scope) -> None:
    second = await scope.begin("b")
    await scope.claim(scope.session("a"))
    assert isinstance(await scope.settle(second), VideoRecord)


async def test_an_unreadable_claim_is_replaced(scope: Scope) -> None:
    session = await scope.begin("a")
    await scope.log.bus.publish(subjects.seen(scope.name, SIGNATURE), b"{")
    assert isinstance(await scope.settle(session), VideoRecord)
    assert (await scope.held()).session == session


async def test_a_claim_that_was_forgotten_meanwhile_is_made_anew(scope: Scope) -> None:
    first, second = await scope.begin("a"), await scope.begin("b")
    await scope.settle(first)
    await scope.log.bus.purge(subjects.SEEN, subjects.seen(scope.name, SIGNATURE))
    assert isinstance(await scope.settle(second), VideoRecord)


async def test_the_bucket_forgets_the_oldest_when_it_is_full_and_keeps_one_record_a_video(scope: Scope) -> None:
    info = await scope.log.bus.api(f"STREAM.INFO.{subjects.SEEN}")
    config = info["config"]
    assert (config["discard"], config["max_msgs_per_subject"], config["max_age"]) == ("old", 1, 30 * 86_400 * 10**9)
    assert config["max_bytes"] > 0
    subject = subjects.seen(scope.name, SIGNATURE)
    session = await scope.begin("a")
    claim = await scope.claim(session)
    await scope.log.bus.publish(subject, b"{}", fence=Fence(subject, claim.sequence))
    found, _ = await scope.log.bus.subjects_under(subjects.SEEN, subject)
    assert found == {subject}
