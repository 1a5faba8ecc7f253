"""The session log: all that is known of a session, as records in one bucket."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager

import structlog

from libs.common import subjects
from libs.common.bus import LAG_S, PATIENCE_S, Bus, Fence, Stored
from libs.common.errors import AlreadyExists, BrokerUnavailable, Fenced
from libs.common.messages import Message, encode
from libs.common.session_state import Record, SessionState, record_in, record_of, unreadable
from libs.common.tail import Tail
from libs.common.tasks import end
from libs.common.telemetry import inject, sent_if_recorded

FOLLOWER_RECORDS = 512  # a follower further behind than this re-reads the log instead of being remembered
READ_BATCH = 512

log = structlog.get_logger()


class _Follower:
    """One that follows a session: what it has not taken yet is at most FOLLOWER_RECORDS records of `most_bytes`.

    Past that it is `behind`: nothing more is kept, and it reads the log again after what it saw last.
    """

    most_bytes = 256 * 1024
    overhead_bytes = 1024  # what a record costs beside its body
    read_bytes = 1024 * 1024  # at once, about
    first_batch, most_batch = 8, 128  # records: while nothing is known of their size; in any case

    def __init__(self, bus: Bus, session: str, after: int, turn: asyncio.Lock) -> None:
        self.bus = bus
        self.session, self.after = session, after
        self.turn = turn
        self.records: deque[Stored] = deque()
        self.bytes = 0
        self.batch = self.first_batch
        self.behind = False
        self.gone = False  # the session's request, and with it what can be trusted of its log
        self.wake = asyncio.Event()

    def offer(self, stored: Stored) -> None:
        """A record that was stored just now."""
        if self.behind:
            return
        self.bytes += len(stored.body) + self.overhead_bytes
        if len(self.records) >= FOLLOWER_RECORDS or self.bytes > self.most_bytes:
            self.records.clear()
            self.bytes = 0
            self.behind = True
        else:
            self.records.append(stored)
        self.wake.set()

    async def read(self) -> AsyncGenerator[Record, None]:
        """What is stored so far."""
        self.behind = False
        pattern = subjects.records_of(self.session)
        async with self.turn:
            newest = await self.bus.last(subjects.RESULTS, pattern)
            goal = 0 if newest is None else newest.sequence
            del newest  # it may be large
        loop = asyncio.get_running_loop()
        end_at = loop.time() + PATIENCE_S
        while True:
            async with self.turn:
                size = self.batch
                batch = await self.bus.read(subjects.RESULTS, pattern, self.after + 1, size)
                full = len(batch) == size
                if batch:
                    largest = max(len(stored.body) for stored in batch) + self.overhead_bytes
                    self.batch = max(1, min(self.most_batch, size * 4, self.read_bytes // largest))
                batch.reverse()
                while batch:
                    if (record := self._taken(batch.pop())) is not None:
                        yield record
                        end_at = loop.time() + PATIENCE_S
            if full:
                continue
            if self.after >= goal:
                return
            if loop.time() > end_at:
                raise BrokerUnavailable(f"no replica of {subjects.RESULTS} has record {goal} yet")
            await asyncio.sleep(LAG_S)

    async def hear(self, check_s: float | None) -> AsyncGenerator[Record, None]:
        """What comes, until it is `behind`, or `gone`."""
        while not self.behind:
            while self.records:
                async with self.turn:
                    if not self.records:
                        break
                    stored = self.records.popleft()
                    self.bytes -= len(stored.body) + self.overhead_bytes
                    if stored.sequence > self.after and (record := self._taken(stored)) is not None:
                        yield record
            self.wake.clear()
            if self.behind:
                return
            try:
                async with asyncio.timeout(check_s):
                    await self.wake.wait()
            except TimeoutError:
                request = subjects.record(self.session, subjects.REQUEST)
                if await self.bus.last(subjects.RESULTS, request) is None:
                    self.gone = True
                    return

    def _taken(self, stored: Stored) -> Record | None:
        self.after = stored.sequence
        return record_of(stored)


class SessionLog:
    """Reads and writes session logs through one tail over the bucket. Use `session_log`."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.tail = Tail(bus, subjects.RESULTS, subjects.ALL_RECORDS, self._dispatch)
        self.listeners: list[Callable[[Stored], None]] = []  # that hear every record of every session
        self._followers: dict[str, list[_Follower]] = {}

    async def create(
        self, session: str, kind: str, message: Message, name: str | None = None, patience_s: float = PATIENCE_S
    ) -> int:
        """Writes a record that must not exist yet; returns its sequence. Raises AlreadyExists.

        One that cannot be read counts as none and is replaced: it would otherwise keep its session open for ever.
        """
        made = await self._create(session, kind, message, name, patience_s)
        if isinstance(made, int):
            return made
        raise AlreadyExists(subjects.record(session, kind, name))

    async def _create(
        self, session: str, kind: str, message: Message, name: str | None, patience_s: float
    ) -> int | Stored | None:
        """The sequence of the record, or what was there before; None where that cannot be read just now."""
        subject = subjects.record(session, kind, name)
        body = encode(message)
        with sent_if_recorded(subjects.RECORD_TEMPLATE, subject, len(body)):
            try:
                return await self.bus.publish(subject, body, headers=inject(), create=True, patience_s=patience_s)
            except AlreadyExists:
                there = await self.bus.last(subjects.RESULTS, subject)
                if there is None or not unreadable(there):
                    return there
            log.error("an unreadable record is replaced", subject=subject, sequence=there.sequence)
            fence = Fence(subject, there.sequence)
            try:
                return await self.bus.publish(subject, body, headers=inject(), fence=fence, patience_s=patience_s)
            except Fenced:
                return await self.bus.last(subjects.RESULTS, subject)

    async def claim(self, session: str, kind: str, message: Message, name: str) -> Record | None:
        """Creates a record; returns None, or the record that is there already.

        Raises NewerVersion where that is not for this version to read.
        """
        made = await self._create(session, kind, message, name, PATIENCE_S)
        if made is None:  # a replica that was just elected
            raise BrokerUnavailable(f"the {kind} {name} was refused and cannot be read")
        return None if isinstance(made, int) else record_in(made)

    async def put(self, session: str, kind: str, message: Message) -> int:
        """Writes a record in place of the one before."""
        return await self.bus.publish(subjects.record(session, kind), encode(message), headers=inject())

    async def get(self, session: str, kind: str, name: str | None = None) -> Record | None:
        """One record as the stream's leader has it, or None."""
        stored = await self.bus.last(subjects.RESULTS, subjects.record(session, kind, name))
        return None if stored is None else record_of(stored)

    async def state(self, session: str) -> SessionState:
        """What is known of `session` now."""
        state = SessionState()
        async for record in self.read(session):
            state.apply(record)
        return state

    async def read(self, session: str, after: int = 0) -> AsyncGenerator[Record, None]:
        """The records of `session` stored so far, after sequence `after`, in order.

        Any replica of the stream answers, also one that lags, so the leader is asked first how far there is to read.
        """
        newest = await self.bus.last(subjects.RESULTS, subjects.records_of(session))
        goal = 0 if newest is None else newest.sequence
        end_at = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            batch = await self.bus.read(subjects.RESULTS, subjects.records_of(session), after + 1, READ_BATCH)
            for stored in batch:
                after = stored.sequence
                if (record := record_of(stored)) is not None:
                    yield record
            if len(batch) == READ_BATCH:
                continue
            if after >= goal:
                return
            if asyncio.get_running_loop().time() > end_at:
                raise BrokerUnavailable(f"no replica of {subjects.RESULTS} has record {goal} yet")
            await asyncio.sleep(LAG_S)

    async def last_sequence(self) -> int:
        """The sequence of the newest record of any session."""
        return int((await self.bus.api(f"STREAM.INFO.{subjects.RESULTS}"))["state"]["last_seq"])

    async def follow(self, session: str, after: int = 0) -> AsyncGenerator[Record, None]:
        """The records of `session` after sequence `after`, each once, in order, and then as they come, without end."""
        async with aclosing(self.follow_kept(session, after, asyncio.Lock(), None)) as records:
            async for record in records:
                yield record

    async def follow_kept(
        self, session: str, after: int, turn: asyncio.Lock, check_s: float | None
    ) -> AsyncGenerator[Record, None]:
        """Likewise, ending where nothing was heard for `check_s` and the session's request is no longer in the log.

        Records are taken and given under `turn`: of those that share it, one holds more than it keeps.
        """
        follower = _Follower(self.bus, session, after, turn)
        self._followers.setdefault(session, []).append(follower)
        try:
            while not follower.gone:
                async with aclosing(follower.read()) as records:
                    async for record in records:
                        yield record
                async with aclosing(follower.hear(check_s)) as records:
                    async for record in records:
                        yield record
        finally:
            self._followers[session].remove(follower)
            if not self._followers[session]:
                del self._followers[session]

    async def read_kept(self, session: str, after: int, turn: asyncio.Lock) -> AsyncGenerator[Record, None]:
        """Those of them that are stored by now."""
        async with aclosing(_Follower(self.bus, session, after, turn).read()) as records:
            async for record in records:
                yield record

    def _dispatch(self, stored: Stored) -> None:
        for listener in self.listeners:
            listener(stored)
        followers = self._followers.get(subjects.session_in(stored.subject))
        for follower in followers or ():
            follower.offer(stored)


@asynccontextmanager
async def session_log(bus: Bus) -> AsyncGenerator[SessionLog, None]:
    """A session log whose tail runs meanwhile."""
    session_log = SessionLog(bus)
    await session_log.tail.start()
    task = asyncio.create_task(session_log.tail.run(), name="tail")
    try:
        yield session_log
    finally:
        await end(task)
