"""Clients: one session after the other until the time is up, each followed to its end through whatever happens."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from libs.client.client import Client
from libs.client.errors import GatewayUnreachable, RequestRefused
from libs.common.frames import Accepted, AnyFrame, Completed, ErrorFrame, VideoFrame, decode_frame
from libs.common.tasks import end
from tests.chaos.sessions import Given, Session, Wish, wish

COME_BACK = ("unavailable", "draining")  # what a gateway says that cannot take an operation now
FOR_EVER_S = 3600.0
AGAIN_S = 0.3
OPEN_S = 5.0
LINGER_S = 0.3  # after `completed`, for what must not come any more
CONNECTION_LOST = (OSError, TimeoutError, InvalidHandshake, ConnectionClosed)


class Clients:
    """`sessions` grows by each session that is asked for."""

    def __init__(self, gateways: list[str], seed: int, many: int) -> None:
        self.gateways, self.seed, self.many = gateways, seed, many
        self.sessions: list[Session] = []
        self.begin = asyncio.Event()  # sessions are begun while it is set
        self.begin.set()
        self._numbers = iter(range(1, 10**9))

    async def run(self) -> None:
        """Returns when sessions are begun no more and every one is complete."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.many):
                group.create_task(self._one_client())

    @property
    def open(self) -> list[Session]:
        """Those that are not complete."""
        return [session for session in self.sessions if not session.completed and session.session_id]

    async def _one_client(self) -> None:
        while self.begin.is_set():
            session = Session(wish(self.seed, next(self._numbers)), began_s=time.monotonic())
            self.sessions.append(session)
            await self._carry_out(session)
            if session.completed:
                session.took_s = time.monotonic() - session.began_s

    async def _carry_out(self, session: Session) -> None:
        asked: Wish = session.wish
        follow = self._by_library if asked.library else self._by_socket
        cancelling = asyncio.create_task(self._cancel(session)) if asked.kind == "cancelled" else None
        try:
            while not session.completed and (session.session_id or self.begin.is_set()):
                try:
                    await follow(session)
                except RequestRefused as refused:
                    session.refusals += 1
                    if refused.code not in COME_BACK:
                        session.complaints.append(f"{refused.code}: {refused.message}")
                        return
                except GatewayUnreachable:
                    session.refusals += 1
                await asyncio.sleep(AGAIN_S)
        finally:
            if cancelling is not None:
                await end(cancelling)

    async def _by_library(self, session: Session) -> None:
        client = Client(random.choice(self.gateways), reconnect_timeout_s=FOR_EVER_S)
        if session.session_id is None:
            search = client.search(session.wish.query, limit=session.wish.limit)
        else:
            search = client.follow(session.session_id, after=_last(session))
        session.connections += 1
        try:
            async with aclosing(search.frames()) as frames:
                async for frame in frames:
                    _note(session, frame)
        finally:
            session.connections += search.reconnects

    async def _by_socket(self, session: Session) -> None:
        """One connection, dropped in the middle of things, or used to the end."""
        drop_at = time.monotonic() + random.expovariate(1 / session.wish.drops_every_s)
        session.connections += 1
        with suppress(*CONNECTION_LOST):
            async with connect(random.choice(self.gateways), open_timeout=OPEN_S, proxy=None, max_size=None) as socket:
                await socket.send(_opening(session))
                async for frame in _frames(socket, drop_at):
                    if isinstance(frame, ErrorFrame):
                        raise RequestRefused(frame.code, frame.message, frame.field)
                    _note(session, frame)
                if not session.completed:
                    socket.transport.abort()
                    return
                async for frame in _frames(socket, time.monotonic() + LINGER_S):
                    session.complaints.append(f"after completed: {type(frame).__name__}")

    async def _cancel(self, session: Session) -> None:
        await session.accepted.wait()
        assert session.session_id is not None
        await asyncio.sleep(session.wish.cancel_after_s)
        while not session.completed:
            with suppress(GatewayUnreachable, RequestRefused, *CONNECTION_LOST):
                async with asyncio.timeout(OPEN_S * 2):
                    await Client(random.choice(self.gateways)).cancel(session.session_id)
                return
            await asyncio.sleep(AGAIN_S)

    async def ask_again(self, session: Session) -> None:
        """Follows a session from its beginning: it must read the same as it did the first time."""
        assert session.session_id is not None
        again = Session(session.wish, session_id=session.session_id)
        search = Client(random.choice(self.gateways)).follow(session.session_id)
        try:
            async with aclosing(search.frames()) as frames:
                async for frame in frames:
                    _note(again, frame)
        except (RequestRefused, GatewayUnreachable) as error:
            session.complaints.append(f"asked again: {error}")
            return
        if again.given != session.given:
            session.complaints.append(f"asked again: {len(again.given)} videos, not {len(session.given)} as at first")
        if again.completed != [msgspec.structs.replace(frame, id=None) for frame in session.completed]:
            session.complaints.append("asked again: completed otherwise than at first")


async def _frames(socket: Any, until: float) -> AsyncIterator[AnyFrame]:
    """The frames that come before `until`, the first `completed` being the last."""
    while True:
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                frame = decode_frame(await socket.recv())
        except TimeoutError:
            return
        yield frame
        if isinstance(frame, Completed):
            return


def _opening(session: Session) -> str:
    if session.session_id is None:
        parameters: dict[str, Any] = {"search_query": session.wish.query, "result_limit": session.wish.limit}
        return json.dumps({"operation": "initiate_extraction", "parameters": parameters})
    parameters = {"session_id": session.session_id, "after": _last(session)}
    return json.dumps({"operation": "resume_extraction", "parameters": parameters})


def _last(session: Session) -> int:
    return session.given[-1].sequence if session.given else 0


def _note(session: Session, frame: AnyFrame) -> None:
    match frame:
        case Accepted(session_id=session_id):
            if session.session_id not in (None, session_id):
                session.complaints.append(f"accepted as {session_id}, after {session.session_id}")
            session.session_id = session_id
            session.accepted.set()
        case VideoFrame(sequence=sequence, video=video):
            if sequence <= _last(session):
                session.complaints.append(f"sequence {sequence} after {_last(session)}")
            session.given.append(Given(sequence, session.key(video)))
        case Completed():
            session.completed.append(frame)
        case _:
            pass
