from __future__ import annotations

import asyncio
import secrets
from contextlib import aclosing

from libs.common import session_log as module
from libs.common import subjects
from libs.common.bus import Bus
from libs.common.messages import CrawledRecord, ProgressRecord, Reason, RepeatRecord, RequestRecord, SearchRequest
from libs.common.session_log import SessionLog
from libs.common.session_state import Record
from libs.common.tail import Tail
from libs.common.tasks import end
from tests.wait import wait_until


async def begin(log: SessionLog, session: str) -> int:
    request = SearchRequest(session=session, query="q", result_limit=9, requested_at=0.0)
    return await log.create(session, subjects.REQUEST, RequestRecord(request=request))


async def repeat(log: SessionLog, session: str, n: int) -> int:
    return await log.create(session, subjects.REPEAT, RepeatRecord(item=f"{n}-0", signature="ab"), f"{n}-0")


class Follower:
    """Collects what following a session gives."""

    def __init__(self, log: SessionLog, session: str, after: int = 0) -> None:
        self.records: list[Record] = []
        self.pace = asyncio.Event()
        self.pace.set()
        self.task = asyncio.create_task(self._run(log, session, after))

    async def _run(self, log: SessionLog, session: str, after: int) -> None:
        async with aclosing(log.follow(session, after)) as records:
            async for record in records:
                await self.pace.wait()
                self.records.append(record)

    @property
    def sequences(self) -> list[int]:
        """In the order in which they came."""
        return [record.sequence for record in self.records]


async def test_whenever_one_begins_to_follow_each_record_comes_once_in_order(log: SessionLog, session: str) -> None:
    followers = [Follower(log, session)]
    sequences = [await begin(log, session)]
    for n in range(60):
        sequences.append(await repeat(log, session, n))
        if n % 7 == 0:
            followers.append(Follower(log, session))
    for follower in followers:
        await wait_until(lambda f=follower: len(f.sequences) == 61, "all records")  # type: ignore[misc]
        assert follower.sequences == sequences
        follower.task.cancel()


async def test_following_after_a_sequence_gives_the_later_ones_only(log: SessionLog, session: str) -> None:
    sequences = [await begin(log, session), *[await repeat(log, session, n) for n in range(10)]]
    follower = Follower(log, session, after=sequences[4])
    await wait_until(lambda: len(follower.sequences) == 6, "the later ones")
    sequences.append(await repeat(log, session, 99))
    await wait_until(lambda: len(follower.sequences) == 7, "the live one")
    assert follower.sequences == sequences[5:]
    follower.task.cancel()


async def test_a_follower_that_falls_behind_loses_nothing_and_holds_little(log: SessionLog, session: str) -> None:
    follower = Follower(log, session)
    sequences = [await begin(log, session)]
    await wait_until(lambda: len(follower.sequences) == 1, "the first")
    follower.pace.clear()
    many = module.FOLLOWER_RECORDS * 2
    sequences += await asyncio.gather(*(repeat(log, session, n) for n in range(many)))
    await wait_until(lambda: log.tail.sequence >= max(sequences), "the tail has seen all")
    assert all(len(held.records) <= module.FOLLOWER_RECORDS for held in log._followers[session])
    follower.pace.set()
    await wait_until(lambda: len(follower.sequences) == many + 1, "all records")
    assert follower.sequences == sorted(sequences)
    follower.task.cancel()


async def test_a_record_has_one_time_whether_it_is_heard_or_read(log: SessionLog, session: str) -> None:
    follower = Follower(log, session)
    await begin(log, session)
    await wait_until(lambda: len(follower.records) == 1, "it follows")
    await asyncio.gather(*(repeat(log, session, n) for n in range(200)))
    await wait_until(lambda: len(follower.records) == 201, "all records")
    heard = {record.sequence: record.stored_at for record in follower.records}
    assert {record.sequence: record.stored_at async for record in log.read(session)} == heard
    follower.task.cancel()


async def test_state_is_what_the_records_add_up_to(log: SessionLog, session: str) -> None:
    await begin(log, session)
    await log.put(session, subjects.PROGRESS, ProgressRecord(state="starting"))
    await log.put(session, subjects.PROGRESS, ProgressRecord(state="crawling", pages=2))
    await repeat(log, session, 1)
    await log.create(session, subjects.CRAWLED, CrawledRecord(reason=Reason.EXHAUSTED, items=1))
    state = await log.state(session)
    assert state.complete
    assert (state.repeats, state.progress and state.progress.pages) == (1, 2)


async def test_an_unreadable_record_does_not_stop_a_follower(log: SessionLog, bus: Bus, session: str) -> None:
    follower = Follower(log, session)
    await begin(log, session)
    await bus.publish(subjects.record(session, subjects.VIDEO, "ab"), b"\xff\x00")
    await bus.publish(subjects.record(session, "novelty"), b"{}")
    last = await repeat(log, session, 1)
    await wait_until(lambda: last in follower.sequences, "the record after them")
    assert len(follower.records) == 2
    follower.task.cancel()


async def test_other_services_hear_records_on_the_public_subjects(log: SessionLog, bus: Bus, session: str) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def listener(message: object) -> None:
        heard.put_nowait(message.subject)  # type: ignore[attr-defined]

    await bus.subscribe(f"results.{session}.>", listener)
    await bus.client.flush()
    await begin(log, session)
    async with asyncio.timeout(5):
        assert await heard.get() == f"results.{session}.request"


async def test_a_tail_goes_on_when_its_stream_is_made_anew(bus: Bus) -> None:
    name = f"T{secrets.token_hex(4)}"
    stream = {"name": name, "subjects": [f"{name}.*"], "storage": "memory"}
    await bus.api(f"STREAM.CREATE.{name}", stream)
    for n in range(5):
        await bus.publish(f"{name}.{n}", b"old")
    seen: list[bytes] = []
    tail = Tail(bus, name, f"{name}.*", lambda stored: seen.append(stored.body))
    await tail.start()
    task = asyncio.create_task(tail.run())
    await bus.publish(f"{name}.x", b"before")
    await wait_until(lambda: seen == [b"before"], "the first record")
    await bus.api(f"STREAM.DELETE.{name}")
    await bus.api(f"STREAM.CREATE.{name}", stream)
    await bus.publish(f"{name}.y", b"after")
    await wait_until(lambda: seen == [b"before", b"after"], "the record of the new stream")
    await end(task)
    await bus.api(f"STREAM.DELETE.{name}")
