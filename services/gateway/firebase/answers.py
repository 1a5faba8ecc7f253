"""Answers over HTTP that are sent while they are made: a JSON value, or a stream of events."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from libs.common.errors import BrokerUnavailable, PinstreamError
from libs.common.tasks import end
from services.gateway.firebase.identity import EXPIRED, Identity
from services.gateway.firebase.tree import Change
from services.gateway.firebase.watch import Pieces, Watch
from services.gateway.following import SessionExpired
from services.gateway.sending import delivered
from services.gateway.storage import Storage

ABORT = "pinstream.abort"  # the ASGI extension that drops a connection with what its client has not read
JSON = "application/json; charset=utf-8"
EVENTS = "text/event-stream; charset=utf-8"

log = structlog.get_logger()


class Stuck(PinstreamError):
    """The client takes nothing."""


class Body:
    """The body of one answer, in parts; who does not take one within `timeout_s` is dropped."""

    def __init__(self, scope: Scope, send: Send, timeout_s: float) -> None:
        self._abort = scope.get("extensions", {}).get(ABORT)
        self._send, self.timeout_s = send, timeout_s

    async def start(self, kind: str, headers: dict[str, str]) -> None:
        """Status 200 and the headers."""
        known = {"content-type": kind, "cache-control": "no-cache", "x-accel-buffering": "no", **headers}
        raw = [(name.lower().encode(), value.encode()) for name, value in known.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    async def send(self, text: str, *, more: bool = True) -> None:
        """The next part. Raises Stuck."""
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._send({"type": "http.response.body", "body": text.encode(), "more_body": more})
        except TimeoutError as error:
            log.warning("client too slow", timeout_s=self.timeout_s)
            self.abort()
            raise Stuck from error

    def abort(self) -> None:
        """Drops the connection, so that what has come is not taken for the whole."""
        if self._abort is not None:
            self._abort()


class ValueAnswer:
    """One value; its first piece is made before the status is sent. It breaks off when its caller may not be here."""

    def __init__(self, first: str, rest: Pieces, headers: dict[str, str], identity: Identity, timeout_s: float) -> None:
        self.first, self.rest = first, rest
        self.headers, self.timeout_s = headers, timeout_s
        self.identity = identity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's."""
        body = Body(scope, send, self.timeout_s)
        async with aclosing(self.rest) as rest:
            try:
                await body.start(JSON, self.headers)
                await body.send(self.first)
                async for piece in rest:
                    if self.identity.revoked:
                        body.abort()
                        return
                    await body.send(piece)
                await body.send("", more=False)
            except Stuck:
                return
            except BrokerUnavailable as error:
                log.warning("an answer is broken off", error=str(error))
                body.abort()


class EventStream:
    """The value at a place as the first `put`, then its changes, for as long as the client stays.

    `over` is set when the gateway stops: then the stream ends, and the client asks another one.
    """

    def __init__(
        self,
        watch: Watch | None,
        value: Any,
        identity: Identity,
        storage: Storage,
        over: asyncio.Event,
        keep_alive_s: float,
        timeout_s: float,
    ) -> None:
        self.watch, self.value = watch, value
        self.identity, self.storage = identity, storage
        self.over = over
        self.keep_alive_s, self.timeout_s = keep_alive_s, timeout_s
        self._turn = asyncio.Lock()
        self._given, self._troubled = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's."""
        body = Body(scope, send, self.timeout_s)
        await body.start(EVENTS, {})
        leaving = asyncio.create_task(_left(receive), name="receive")
        tasks = [
            leaving,
            asyncio.create_task(self._follow(body), name="follow"),
            asyncio.create_task(self._tell_trouble(body), name="tell of the storage"),
            asyncio.create_task(self._beat(body), name="keep alive"),
            asyncio.create_task(self._revoked(body), name="revoked"),
            asyncio.create_task(self.over.wait(), name="over"),
        ]
        self.storage.listen(self._storage_changed)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.storage.leave(self._storage_changed)
            await end(*tasks)
        for task in done:
            if (error := task.exception()) is not None and not isinstance(error, Stuck):
                log.error("a stream is broken off", exc_info=error)
        if leaving not in done and not any(isinstance(task.exception(), Stuck) for task in done):
            await body.send("", more=False)

    async def _follow(self, body: Body) -> None:
        if self.watch is None:
            await self._event(body, "put", {"path": "/", "data": self.value})
        else:
            try:
                await self._value(body, self.watch)
                self._given.set()
                async with aclosing(self.watch.changes()) as told:
                    async for changes, step in told:
                        async with delivered(step, "firebase"):
                            for change in changes:
                                await self._change(body, change)
            except SessionExpired as error:
                await self._event(body, "cancel", str(error))
                return
        await asyncio.Event().wait()  # the client decides when it has seen enough

    async def _value(self, body: Body, watch: Watch) -> None:
        async with self._turn, aclosing(watch.pieces()) as pieces:
            before = 'event: put\ndata: {"path":"/","data":'
            async for piece in pieces:
                await body.send(before + piece)
                before = ""
            await body.send("}\n\n")

    async def _change(self, body: Body, change: Change) -> None:
        data = {"path": "/" + "/".join(change.path), "data": change.value}
        await self._event(body, "patch" if change.merge else "put", data)

    def _storage_changed(self, _trouble: str | None) -> None:
        self._troubled.set()

    async def _tell_trouble(self, body: Body) -> None:
        await self._given.wait()
        assert self.watch is not None
        while True:
            for change in self.watch.troubled():
                await self._change(body, change)
            await self._troubled.wait()
            self._troubled.clear()

    async def _beat(self, body: Body) -> None:
        while True:
            await asyncio.sleep(self.keep_alive_s)
            await self._event(body, "keep-alive", None)

    async def _revoked(self, body: Body) -> None:
        await self.identity.over()
        await self._event(body, "auth_revoked", EXPIRED)

    async def _event(self, body: Body, name: str, data: Any) -> None:
        async with self._turn:
            await body.send(f"event: {name}\ndata: {msgspec.json.encode(data).decode()}\n\n")


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
