"""Server-sent events: a session as an `EventSource` follows it, which comes back and resumes by itself.

An EventSource comes back after a lost or ended connection, with the last `id` that it saw, but never again after an
answer other than 200. So what will pass (a gateway that stops, a broker that is away) is answered by a stream that ends
at once and says when to come back; what will not, by a problem; and the end of the session, on coming back, by 204.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from libs.common import metrics, subjects
from libs.common.errors import BrokerUnavailable, SequenceUnknown, SessionUnknown
from libs.common.frames import AnyFrame, Completed, ErrorCode, VideoFrame, encode_frame
from libs.common.tasks import end
from services.gateway.callers import caller_of
from services.gateway.draining import Draining
from services.gateway.following import Following, SessionExpired, Step
from services.gateway.parameters import LAST_EVENT_ID, last_event_in, session_in
from services.gateway.problems import COME_BACK_S, ELSEWHERE_S, Problem
from services.gateway.sending import delivered
from services.gateway.sessions import Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.storage import Storage
from services.gateway.streaming import Streamed

MEDIA_TYPE = "text/event-stream"
HEARTBEAT = b": still here\n\n"
RETRY_S = 2.0  # after a lost connection
EVENTS = {"protocol": "events"}
HEADERS = {"X-Accel-Buffering": "no"}  # proxies that gather answers let this one through

log = structlog.get_logger()


def event(frame: AnyFrame) -> bytes:
    """A frame of the WebSocket protocol as an event of its name; what can be resumed after has its sequence as `id`."""
    name = str(type(frame).__struct_config__.tag)
    lines = [f"event: {name}", f"data: {encode_frame(frame)}"]  # JSON has no line breaks of its own
    if isinstance(frame, VideoFrame | Completed):
        lines.insert(0, f"id: {frame.sequence}")
    return ("\n".join(lines) + "\n\n").encode()


def retry(after_s: float) -> bytes:
    """When to come back after the connection is lost or ended."""
    return f"retry: {round(after_s * 1000)}\n\n".encode()


class Events:
    """`GET /v1/sessions/{session_id}/events`"""

    def __init__(self, sessions: Sessions, storage: Storage, settings: GatewaySettings, draining: Draining) -> None:
        self.sessions, self.storage = sessions, storage
        self.settings = settings
        self.draining = draining

    async def answer(self, request: Request) -> Response:
        """A stream, a problem, or 204 to one that has seen all."""
        session, after = session_in(request), last_event_in(request)
        if self.draining.over.is_set():
            return self._streamed(come_back(ELSEWHERE_S))
        try:
            following = await self.sessions.opened(session, after, caller_of(request.scope))
            if after and await self._is_over(session, after):
                return Response(status_code=204)
        except SequenceUnknown as error:
            field = LAST_EVENT_ID if request.headers.get(LAST_EVENT_ID) else "after"
            raise Problem(422, ErrorCode.UNKNOWN_SEQUENCE, str(error), field=field) from error
        except BrokerUnavailable as error:
            log.warning("cannot follow a session now", session=session, error=str(error))
            return self._streamed(come_back(COME_BACK_S))
        stream = EventStream(following, self.storage, self.draining, self.settings.events_heartbeat_s)
        return self._streamed(stream.pieces())

    def _streamed(self, pieces: AsyncGenerator[bytes, None]) -> Response:
        return Streamed(pieces, MEDIA_TYPE, self.settings.send_timeout_s, HEADERS)

    async def _is_over(self, session: str, after: int) -> bool:
        """Whether nothing comes after `after`, `completed` included."""
        if await self.sessions.session_log.get(session, subjects.CRAWLED) is None:
            return False
        following = self.sessions.follow(session, after)
        async with aclosing(following.stored()) as steps:
            async for frame, *_ in steps:
                if isinstance(frame, VideoFrame):
                    return False
                if isinstance(frame, Completed):
                    return frame.sequence <= after
        return False


async def come_back(after_s: float) -> AsyncGenerator[bytes, None]:
    """Nothing, but when to come back; not all at the same time."""
    yield retry(after_s * random.uniform(0.5, 1.5))


class EventStream:
    """The events of one session for one client; what is not yet sent is one of them, and what `following` keeps."""

    def __init__(self, following: Following, storage: Storage, draining: Draining, heartbeat_s: float) -> None:
        self.following = following
        self.storage = storage
        self.draining = draining
        self.heartbeat_s = heartbeat_s
        self._next: asyncio.Queue[Step | None] = asyncio.Queue(maxsize=1)
        self._wake = asyncio.Event()
        self._troubled = storage.trouble is not None  # something is to be said of it

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """To `completed`, or until the gateway stops."""
        self.storage.listen(self._storage_changed)
        metrics.open_sockets.add(1, EVENTS)
        tasks = [
            asyncio.create_task(self._follow(), name=f"follow {self.following.session}"),
            asyncio.create_task(self._await_drain(), name="wait for the drain"),
        ]
        try:
            yield retry(RETRY_S)
            async with aclosing(self._events()) as events:
                async for piece in events:
                    yield piece
        finally:
            metrics.open_sockets.add(-1, EVENTS)
            self.storage.leave(self._storage_changed)
            await end(*tasks)

    async def _events(self) -> AsyncGenerator[bytes, None]:
        while True:
            try:
                async with asyncio.timeout(self.heartbeat_s):
                    await self._wake.wait()
            except TimeoutError:
                yield HEARTBEAT
                continue
            self._wake.clear()
            if self.draining.over.is_set():
                yield retry(ELSEWHERE_S * random.uniform(0.1, 1.0))
                return
            if self._troubled:
                self._troubled = False
                yield event(self._state())
            if not self._next.empty():
                step = self._next.get_nowait()
                if step is None:
                    return
                async with delivered(step, "events"):
                    yield event(step.frame)

    def _state(self) -> AnyFrame:
        progress, trouble = self.following.progress, self.storage.trouble
        if trouble is None:
            return progress
        return msgspec.structs.replace(progress, state="waiting", waiting_for=trouble, waiting_until=None)

    async def _follow(self) -> None:
        structlog.contextvars.bind_contextvars(session=self.following.session)
        try:
            async with aclosing(self.following.steps()) as steps:
                async for step in steps:
                    await self._next.put(step)
                    self._wake.set()
        except (SessionUnknown, SessionExpired, SequenceUnknown) as error:
            log.info("a session's events end", error=str(error))  # who comes back is told why
        except Exception:
            log.exception("following a session failed")
        await self._next.put(None)
        self._wake.set()

    async def _await_drain(self) -> None:
        await self.draining.over.wait()
        self._wake.set()

    def _storage_changed(self, _trouble: str | None) -> None:
        self._troubled = True
        self._wake.set()
