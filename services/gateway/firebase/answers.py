"""Answers over HTTP that are sent while they are made: a JSON value, or a stream of events."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import Any

import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from libs.common.errors import BrokerUnavailable, PinstreamError
from services.gateway.firebase.identity import EXPIRED, Identity
from services.gateway.firebase.tree import Change
from services.gateway.firebase.watch import Pieces, Watch
from services.gateway.following import SessionExpired
from services.gateway.sending import delivered

ABORT = "pinstream.abort"  # the ASGI extension that drops a connection with what its client has not read
JSON = "application/json; charset=utf-8"
EVENTS = "text/event-stream; charset=utf-8"

CHECK_S = 1.0  # how often it is looked whether what a client came with is still good

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
            if self._abort is not None:
                self._abort()
            raise Stuck from error


class ValueAnswer:
    """One value; its first piece is made before the status is sent."""

    def __init__(self, first: str, rest: Pieces, headers: dict[str, str], timeout_s: float) -> None:
        self.first, self.rest = first, rest
        self.headers, self.timeout_s = headers, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's."""
        body = Body(scope, send, self.timeout_s)
        async with aclosing(self.rest) as rest:
            try:
                await body.start(JSON, self.headers)
                await body.send(self.first)
                async for piece in rest:
                    await body.send(piece)
                await body.send("", more=False)
            except Stuck:
                return
            except BrokerUnavailable as error:
                log.warning("an answer is broken off", error=str(error))
                if body._abort is not None:
                    body._abort()


class EventStream:
    """The value at a place as the first `put`, then its changes, for as long as the client stays.

    `over` is set when the gateway stops: then the stream ends, and the client asks another one.
    """

    def __init__(
        self,
        watch: Watch | None,
        value: Any,
        identity: Identity,
        over: asyncio.Event,
        keep_alive_s: float,
        timeout_s: float,
    ) -> None:
        self.watch, self.value = watch, value
        self.identity = identity
        self.over = over
        self.keep_alive_s, self.timeout_s = keep_alive_s, timeout_s
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's."""
        body = Body(scope, send, self.timeout_s)
        await body.start(EVENTS, {})
        leaving = asyncio.create_task(_left(receive), name="receive")
        tasks = [
            leaving,
            asyncio.create_task(self._follow(body), name="follow"),
            asyncio.create_task(self._beat(body), name="keep alive"),
            asyncio.create_task(self.over.wait(), name="over"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
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

    async def _beat(self, body: Body) -> None:
        beat_at = time.monotonic() + self.keep_alive_s
        while self.identity.revoked() is None:
            await asyncio.sleep(min(CHECK_S, self.keep_alive_s))
            if time.monotonic() >= beat_at:
                await self._event(body, "keep-alive", None)
                beat_at = time.monotonic() + self.keep_alive_s
        await self._event(body, "auth_revoked", EXPIRED)

    async def _event(self, body: Body, name: str, data: Any) -> None:
        async with self._turn:
            await body.send(f"event: {name}\ndata: {msgspec.json.encode(data).decode()}\n\n")


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
