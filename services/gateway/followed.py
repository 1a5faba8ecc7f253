"""What one client follows over its WebSocket: a task for each session, that sends its frames and tells of trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any, NamedTuple

import msgspec
import structlog
from starlette.websockets import WebSocketDisconnect

from libs.common.errors import SequenceUnknown, SessionUnknown
from libs.common.frames import AnyFrame, CloseCode, Completed, ErrorCode, ErrorFrame
from libs.common.tasks import end
from services.gateway.following import Following, SessionExpired
from services.gateway.problems import COME_BACK_S
from services.gateway.sending import Sender, delivered
from services.gateway.storage import Storage

log = structlog.get_logger()


class _There(NamedTuple):
    following: Following
    task: asyncio.Task[None]
    ids: list[Any]


class Followed:
    """Those of one connection. With `bears_trouble` the client knows that an `error` can be about a session that goes
    on."""

    def __init__(self, sender: Sender, storage: Storage, *, bears_trouble: bool) -> None:
        self.sender, self.storage = sender, storage
        self.bears_trouble = bears_trouble
        self.turn = asyncio.Lock()  # one of its sessions at a time is read from the log
        self._there: dict[str, _There] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __contains__(self, session: str) -> bool:
        return session in self._there

    def __len__(self) -> int:
        return len(self._there)

    @property
    def owed(self) -> int:
        """How many operations wait for the end of a session whose frames another one gets by now."""
        return sum(len(there.ids) - 1 for there in self._there.values())

    def start(self, following: Following, id_: Any, *, completed_only: bool = False) -> None:
        """Sends the frames of a session from now on, all with that `id`; who follows it already begins anew.

        What ends it is sent once more with each other `id` that it was followed by.
        """
        session, ids = following.session, [id_]
        if session in self._there:
            before = self._there.pop(session)
            before.task.cancel()
            ids = [*(one for one in before.ids if one != id_), id_]
        sending = self._send_frames(following, ids, completed_only=completed_only)
        task = self._start(sending, f"follow {session}")
        self._there[session] = _There(following, task, ids)
        task.add_done_callback(lambda _: self._forget(following))

    async def end(self) -> None:
        """Of all."""
        await end(*self._tasks)

    def queue_moved(self) -> None:
        """Tells those whose place in the queue has changed."""
        moved = [there.following for there in self._there.values() if there.following.queue_moved]
        if moved:
            self._start(self._tell_queued(moved), "tell of the queue")

    def storage_changed(self, trouble: str | None) -> None:
        """Tells all of the trouble that begins, or how they are once it is over."""
        self._start(self._tell_all(trouble), "tell of the storage")

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _forget(self, following: Following) -> None:
        there = self._there.get(following.session)
        if there is not None and there.following is following:
            del self._there[following.session]

    async def _send_frames(self, following: Following, ids: list[Any], *, completed_only: bool) -> None:
        session = following.session
        structlog.contextvars.bind_contextvars(session=session)
        try:
            if self.storage.trouble is not None and not completed_only:
                await self._tell_trouble(following, self.storage.trouble)
            async with aclosing(following.steps()) as steps:
                async for step in steps:
                    frame = step.frame
                    if completed_only and not isinstance(frame, Completed):
                        continue
                    if isinstance(frame, Completed):
                        self._forget(following)  # a cancel that comes now is answered by itself
                    async with delivered(step, "websocket"):
                        await self._send(frame, ids if isinstance(frame, Completed) else ids[-1:])
        except (SessionUnknown, SessionExpired, SequenceUnknown) as error:
            code, field = {
                SessionUnknown: (ErrorCode.UNKNOWN_SESSION, "parameters.session_id"),
                SessionExpired: (ErrorCode.EXPIRED, "parameters.after"),
                SequenceUnknown: (ErrorCode.UNKNOWN_SEQUENCE, "parameters.after"),
            }[type(error)]
            self._forget(following)
            await self._send(ErrorFrame(session_id=session, code=code, field=field, message=str(error)), ids)
        except (WebSocketDisconnect, RuntimeError) as error:
            log.debug("the client left", error=str(error))
        except Exception:
            log.exception("following a session failed")
            await self.sender.close(CloseCode.INTERNAL_ERROR, "internal error; resume after the last sequence")

    async def _send(self, frame: AnyFrame, ids: list[Any]) -> None:
        for id_ in ids:
            await self.sender.send(frame if id_ is None else msgspec.structs.replace(frame, id=id_))

    async def _tell_queued(self, moved: list[Following]) -> None:
        try:
            for following in moved:
                await self.sender.send(following.progress)
        except (WebSocketDisconnect, RuntimeError) as error:
            log.debug("the client left", error=str(error))

    async def _tell_all(self, trouble: str | None) -> None:
        try:
            for following, *_ in list(self._there.values()):
                if trouble is not None:
                    await self._tell_trouble(following, trouble)
                elif not following.state.complete:
                    await self.sender.send(following.progress)
        except (WebSocketDisconnect, RuntimeError) as error:
            log.debug("the client left", error=str(error))

    async def _tell_trouble(self, following: Following, trouble: str) -> None:
        """In a word that every client bears, and as an error to those that know that it ends nothing."""
        waiting = msgspec.structs.replace(following.progress, state="waiting", waiting_for=trouble, waiting_until=None)
        await self.sender.send(waiting)
        if self.bears_trouble:
            message = f"{trouble}; the session goes on when it can"
            await self.sender.send(
                ErrorFrame(
                    session_id=following.session,
                    code=ErrorCode.UNAVAILABLE,
                    message=message,
                    retry_after_s=COME_BACK_S,
                )
            )
