"""What one connection listens to: the value of each place first, then the answer, then what changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import msgspec
import structlog
from starlette.websockets import WebSocketDisconnect

from services.gateway.firebase.tree import Change, Place
from services.gateway.firebase.watch import Watch
from services.gateway.firebase.wire import MessageSender
from services.gateway.following import SessionExpired
from services.gateway.sending import delivered

log = structlog.get_logger()


class Listener:
    """A path as the client gave it, the tag of its query, and the place that it names."""

    def __init__(self, path: str, tag: Any, place: Place | None, query: Any = None) -> None:
        self.path, self.tag, self.place, self.query = path, tag, place, query
        self.task: asyncio.Task[None] | None = None
        self.watch: Watch | None = None
        self.number: Any = None  # of the request that is not answered yet
        self.given = False  # its value
        self.busy = False  # in the midst of a message
        self.left = False

    def leave(self) -> None:
        """Ends it, once no message is cut in two by that."""
        self.left = True
        if self.task is not None and not self.busy:
            self.task.cancel()


class Listeners:
    """Those of one connection, at most `most`."""

    def __init__(self, sender: MessageSender, most: int) -> None:
        self.sender = sender
        self.most = most
        self.turn = asyncio.Lock()  # one of its sessions at a time gives what it has heard
        self.reading = asyncio.Lock()  # and one is read from the log
        self.failed = asyncio.Event()
        self._there: dict[tuple[str, Any], Listener] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def full(self) -> bool:
        """Whether there are as many as may be."""
        return len(self._there) >= self.most

    def at_requests(self) -> list[Listener]:
        """Those that look at what was pushed."""
        return [each for each in self._there.values() if each.place is not None and each.place.request]

    def note(self, listener: Listener) -> None:
        """Adds one; one of the same path and tag is replaced."""
        self.leave(listener.path, listener.tag)
        self._there[_name(listener.path, listener.tag)] = listener

    def start(self, listener: Listener, watch: Watch, number: Any, hash_: str) -> None:
        """Adds one that answers the request `number` when its value has been given."""
        self.note(listener)
        listener.watch, listener.number = watch, number
        listener.task = asyncio.create_task(self._run(listener, watch, hash_), name=f"listen {listener.path}")
        self._tasks.add(listener.task)
        listener.task.add_done_callback(self._tasks.discard)

    def leave(self, path: str, tag: Any) -> None:
        """The client no longer listens."""
        if (listener := self._there.pop(_name(path, tag), None)) is not None:
            listener.leave()

    async def end(self) -> None:
        """Of all."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def push(self, path: str, tag: Any, value: Any, *, merge: bool = False) -> None:
        """Tells what is at `path`; with `merge`, which of its children changed."""
        body = {"p": path.strip("/"), "d": value}
        await self.sender.data({"a": "m" if merge else "d", "b": body if tag is None else body | {"t": tag}})

    async def _run(self, listener: Listener, watch: Watch, hash_: str) -> None:
        structlog.contextvars.bind_contextvars(session=watch.place.name)
        try:
            async with self.reading:
                await self._value(listener, watch, hash_)
            listener.given = True
            if listener.number is not None:
                await self.sender.data({"r": listener.number, "b": {"s": "ok", "d": {}}})
            if listener.left:
                return
            await self._tell_trouble(listener, watch)
            async with aclosing(watch.changes()) as told:
                async for changes, step in told:
                    async with delivered(step, "firebase"):
                        for change in changes:
                            await self._tell(listener, change)
        except SessionExpired:
            await self._cancel(listener)
        except (WebSocketDisconnect, RuntimeError) as error:
            log.debug("the client left", error=str(error))
        except Exception:
            log.exception("listening failed")
            self.failed.set()

    async def caller_changed(self, watch_of: Callable[[Listener], Watch]) -> None:
        """What the new caller may see goes on, what it may not is cancelled, and what was hidden is looked at again.

        `watch_of` makes the watch of the new caller.
        """
        for listener in list(self._there.values()):
            if (watch := listener.watch) is None:
                continue
            new = watch_of(listener)
            if listener.given and not watch.hidden:
                if not new.caller.may_see(watch.owner):
                    listener.leave()
                    await self._cancel(listener)
                continue
            number = None if listener.given or listener.busy else listener.number
            again = Listener(listener.path, listener.tag, listener.place, listener.query)
            self.start(again, new, number, "")

    async def storage_changed(self) -> None:
        """Tells of the trouble that has begun, or is over."""
        for listener in list(self._there.values()):
            if listener.watch is not None and listener.given:
                await self._tell_trouble(listener, listener.watch)

    async def _tell_trouble(self, listener: Listener, watch: Watch) -> None:
        for change in watch.troubled():
            await self._tell(listener, change)

    async def _cancel(self, listener: Listener) -> None:
        body = {"p": listener.path} if listener.query is None else {"p": listener.path, "q": listener.query}
        await self.sender.data({"a": "c", "b": body})
        self._there.pop(_name(listener.path, listener.tag), None)

    async def _value(self, listener: Listener, watch: Watch, hash_: str) -> None:
        """All of it, or what the client lacks of it."""
        if hash_:
            async with aclosing(watch.missing(hash_)) as missing:
                async for change in missing:
                    await self._tell(listener, change)
            if watch.matched:
                return
        body = (
            {"p": listener.path.strip("/")}
            if listener.tag is None
            else {
                "p": listener.path.strip("/"),
                "t": listener.tag,
            }
        )
        before = f'{{"t":"d","d":{{"a":"d","b":{msgspec.json.encode(body).decode()[:-1]},"d":'
        listener.busy = True
        try:
            await self.sender.send_pieces(before, watch.pieces(), "}}}", watch.most_pieces)
        finally:
            listener.busy = False

    async def _tell(self, listener: Listener, change: Change) -> None:
        path = "/".join((listener.path.strip("/"), *change.path))
        await self.push(path, listener.tag, change.value, merge=change.merge)


def _name(path: str, tag: Any) -> tuple[str, Any]:
    return path.strip("/"), msgspec.json.encode(tag)
