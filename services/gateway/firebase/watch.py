"""What one client looks at in a session: the value as it is, piece by piece, then its changes. Keeps no video."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, NamedTuple

import msgspec
import structlog

from libs.common import subjects
from libs.common.errors import BrokerUnavailable
from libs.common.frames import AnyFrame, Completed, Progress, VideoFrame
from libs.common.messages import RequestRecord, VideoRecord
from libs.common.session_state import SessionState
from services.gateway.callers import Caller
from services.gateway.firebase.hashes import EMPTY, ChildrenHash, hash_of
from services.gateway.firebase.query import Query, Window
from services.gateway.firebase.tree import (
    STATS,
    STATUS,
    STREAMED,
    VIDEOS,
    Change,
    Place,
    difference,
    dig,
    key_of,
    narrowed,
    stats_node,
    status_node,
    video_node,
)
from services.gateway.following import RETRY_S, Step
from services.gateway.sessions import Sessions
from services.gateway.storage import Storage

Pieces = AsyncGenerator[str, None]

log = structlog.get_logger()


class Told(NamedTuple):
    """Changes, and the step that they come from."""

    changes: list[Change]
    step: Step


class Watch:
    """The value at `place`, of its videos what `query` selects, as `caller` may see it.

    Read it by `pieces` or `missing`, then by `changes`. With `patient` outages of the broker are waited out, otherwise
    they are BrokerUnavailable.
    """

    def __init__(
        self,
        sessions: Sessions,
        place: Place,
        query: Query,
        caller: Caller,
        storage: Storage,
        turn: asyncio.Lock | None = None,
        *,
        patient: bool = False,
    ) -> None:
        self.storage = storage
        self.session_log = sessions.session_log
        self.place, self.query = place, query
        self.caller = caller
        self.patient = patient
        self.following = sessions.follow(place.name, 0, turn)
        self.hidden = True  # there is no such session, or it is another's
        self.owner = ""  # of what is not hidden
        self.matched = False
        self.hash = EMPTY  # of all, where `missing` found no match on its way
        self._window = Window(query)
        self._stats: dict[str, Any] = {}
        self._status: dict[str, Any] = {}

    async def pieces(self, *, shallow: bool = False) -> Pieces:
        """The JSON text of the value as it is now; `shallow`: `true` for each child that has children."""
        path = self.place.path
        if path not in STREAMED or (shallow and path == ()):
            async with aclosing(self._tree()) as trees:
                async for tree in trees:
                    yield _json(_shallow(dig(tree, path)) if shallow else dig(tree, path))
            return
        whole = path == ()
        before = f'{{"{VIDEOS}":{{' if whole else "{"
        any_video = False
        async with aclosing(self._selected()) as videos:
            async for key, video in videos:
                yield f'{before}"{key}":{"true" if shallow else _json(video)}'
                before, any_video = ",", True
        self._settle()
        if not whole or self.hidden:
            yield "}" if any_video else "null"
            return
        opening = "}," if any_video else "{"
        yield f'{opening}"{STATS}":{_json(self._stats)},"{STATUS}":{_json(self._status)}}}'

    async def most_pieces(self) -> int:
        """No more of them than so many."""
        videos, _ = await self.session_log.bus.subjects_under(subjects.RESULTS, subjects.videos_of(self.place.name))
        return len(videos) + 2

    async def missing(self, hash_: str) -> AsyncGenerator[Change, None]:
        """What a client lacks that holds a value of this hash, and `matched`; if not, it needs all.

        The videos that it holds may be those of any earlier moment.
        """
        path = self.place.path
        grows = path == (VIDEOS,) and not self.query.last
        of_all = ChildrenHash()
        self.matched = False
        if path not in STREAMED:
            async with aclosing(self._tree()) as trees:
                async for tree in trees:
                    self.hash = hash_of(dig(tree, path))
            self.matched = self.hash == hash_
            return
        async with aclosing(self._selected()) as videos:
            async for key, video in videos:
                if self.matched:
                    yield Change((key,), video)
                    continue
                of_all.add(key, video)
                self.matched = grows and of_all.value == hash_
        self._settle()
        if path == ():
            of_session = ChildrenHash()
            for name, child in ((STATS, self._stats), (STATUS, self._status)):
                of_session.add(name, None if self.hidden else child)
            of_session.add_hash(VIDEOS, of_all.value)
            of_all = of_session
        self.hash = of_all.value
        self.matched = self.matched or self.hash == hash_

    async def changes(self) -> AsyncGenerator[Told, None]:
        """What changes from then on, to the session's end. Raises SessionExpired where its log goes."""
        if self.hidden or self.following.state.complete:
            return
        self.following.after = self.following.state.sequence
        async with aclosing(self.following.steps()) as steps:
            async for step in steps:
                here = [narrowed(change, self.place.path) for change in self._changes(step.frame)]
                if told := [change for change in here if change is not None]:
                    yield Told(told, step)

    def _changes(self, frame: AnyFrame) -> list[Change]:
        found: list[Change] = []
        if isinstance(frame, VideoFrame):
            key = key_of(frame.sequence)
            taken, evicted = self._window.take(key)
            if evicted is not None:
                found.append(Change((VIDEOS, evicted), None))
            if taken and self.place.path[:1] in ((), (VIDEOS,)):
                found.append(Change((VIDEOS, key), video_node(frame.video)))
        if self.place.path[:1] != (VIDEOS,):
            found += self._moved(frame if isinstance(frame, Completed) else None)
        return found

    def troubled(self) -> list[Change]:
        """What is to be told where the trouble of the storage has begun, or is over, after the value was given."""
        here = [narrowed(change, self.place.path) for change in self._moved()]
        return [change for change in here if change is not None]

    def _moved(self, completed: Completed | None = None) -> list[Change]:
        stats, status = self._stats, self._status
        self._settle(completed)
        merges = ((STATS, difference(stats, self._stats)), (STATUS, difference(status, self._status)))
        return [Change((name,), merge, merge=True) for name, merge in merges if merge]

    async def _tree(self) -> AsyncGenerator[dict[str, Any] | None, None]:
        """The session, of its videos the one that is looked at, once."""
        wanted = self.place.path[1] if self.place.path[:1] == (VIDEOS,) else None
        found: dict[str, Any] = {}
        async with aclosing(self._selected()) as videos:
            async for key, video in videos:
                if key == wanted or (self.place.path == () and not found):
                    found[key] = video
        self._settle()
        yield None if self.hidden else {VIDEOS: found, STATS: self._stats, STATUS: self._status}

    async def _selected(self) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """The videos that are stored by now and that the query selects."""
        goal: int | None = None
        if self.query.last:  # which of them are the last is known in the end: they are read twice and never kept
            async with aclosing(self._stored()) as keys:
                async for key, _ in keys:
                    self._window.take(key)
            goal = self.following.state.sequence
            if not self._window.keys:
                return
        first = self._window.keys[0] if goal is not None else ""
        async with aclosing(self._stored(goal)) as videos:
            async for key, record in videos:
                if (self.query.admits(key) and key >= first) if goal is not None else self._window.take(key)[0]:
                    yield key, video_node(record.video)

    async def _stored(self, goal: int | None = None) -> AsyncGenerator[tuple[str, VideoRecord], None]:
        """All videos that count, up to the record `goal`; then `following` is where the log is."""
        state = self.following.state = SessionState()
        if goal is None:
            self._window = Window(self.query)
        self.hidden = True
        while True:
            try:
                async with aclosing(self.session_log.read(self.place.name, state.sequence)) as records:
                    async for record in records:
                        if goal is not None and record.sequence > goal:
                            return
                        message = record.message
                        if state.request is None:
                            if not isinstance(message, RequestRecord) or not self.caller.may_see(message.owner):
                                return
                            self.hidden, self.owner = False, message.owner
                        if state.apply(record) and isinstance(message, VideoRecord):
                            yield key_of(record.sequence), message
                        if state.complete:
                            return
                return
            except BrokerUnavailable as error:
                if not self.patient:
                    raise
                log.warning("cannot read a session now", session=self.place.name, error=str(error))
                await asyncio.sleep(RETRY_S)

    def _settle(self, completed: Completed | None = None) -> None:
        """Notes how the session is."""
        if self.hidden:
            return
        if completed is None and self.following.state.complete:
            completed = self.following.completed
        progress: Progress = self.following.progress
        if self.storage.trouble is not None:
            waiting = {"state": "waiting", "waiting_for": self.storage.trouble, "waiting_until": None}
            progress = msgspec.structs.replace(progress, **waiting)
        self._stats, self._status = stats_node(progress, completed), status_node(progress, completed)


def _shallow(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: True if isinstance(child, dict | list) else child for name, child in value.items()}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
