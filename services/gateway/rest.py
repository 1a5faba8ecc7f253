"""REST, `/v1`: the same searches as over the WebSocket, for clients that ask and go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from libs.common.errors import BrokerUnavailable, PublishRefused, SequenceUnknown, SessionUnknown
from libs.common.frames import MAX_RESULT_LIMIT, Completed
from libs.common.telemetry import received
from services.gateway.bookmarks import Bookmarks
from services.gateway.callers import Caller, TokenRefused, caller_of
from services.gateway.draining import Draining
from services.gateway.events import Events
from services.gateway.following import SessionExpired
from services.gateway.idempotency import KeyEnding, KeyReused, keyed_session
from services.gateway.limits import Limited, Overloaded
from services.gateway.listing import sessions_of
from services.gateway.parameters import after_in, key_in, number_in, session_in, wanted_in
from services.gateway.problems import (
    COME_BACK_S,
    ELSEWHERE_S,
    Problem,
    answer_failure,
    answer_http_error,
    answer_problem,
)
from services.gateway.reading import Reading, csv_of, ndjson_of
from services.gateway.representations import CSV, JSON, preferred
from services.gateway.resources import Created, Session, WebhookSecret, session_of
from services.gateway.sessions import REFUSALS, Sessions, answered
from services.gateway.settings import GatewaySettings
from services.gateway.status import Status
from services.gateway.storage import Storage, trouble_of
from services.gateway.streaming import Streamed, begun_with, sliced
from services.gateway.webhooks.status import status_of
from services.gateway.webhooks.target import receivers_of

MOST_SESSIONS, SESSIONS = 100, 20  # of a page: at most, by default
VIDEOS = 100  # of a page in JSON, by default
PAGE_BYTES = 1024 * 1024  # a page in JSON ends with the video that goes past it
MOST_WAIT_S = 60

Answer = Callable[[Request], Awaitable[Response]]

log = structlog.get_logger()


class Rest:
    """The application under `/v1`. Holds no state but what saves reading it again."""

    def __init__(
        self, sessions: Sessions, storage: Storage, settings: GatewaySettings, status: Status | None = None
    ) -> None:
        self.sessions, self.storage = sessions, storage
        self.settings = settings
        self.draining = Draining()
        self.bookmarks = Bookmarks()
        events = Events(sessions, storage, settings, self.draining)
        one = "/sessions/{session_id}"
        self.app = Starlette(
            routes=[
                _route("/sessions", GET=self.list, POST=self.begin),
                _route(one, GET=self.show, DELETE=self.cancel),
                _route("/webhook-secret", GET=self.webhook_secret),
                Route(f"{one}/videos", self.videos, methods=["GET"]),
                Route(f"{one}/events", events.answer, methods=["GET"]),
                *([] if status is None else [Route("/status", status.answer, methods=["GET"])]),
            ],
            exception_handlers={
                Problem: answer_problem,
                HTTPException: answer_http_error,
                Exception: answer_failure,
                **dict.fromkeys(_PROBLEMS, _refuse),
                **dict.fromkeys((BrokerUnavailable, PublishRefused), self._unavailable),
                Limited: _limited,
                TokenRefused: _not_admitted,
            },
        )
        self.app.router.redirect_slashes = False  # as the application has it

    async def drain(self) -> None:
        """No new searches from now on; after DRAIN_NOTICE_S what waits or streams is ended, to go on elsewhere."""
        await self.draining.run(self.settings.drain_notice_s)

    async def begin(self, request: Request) -> Response:
        """`POST /sessions`"""
        if self.draining.refusing:
            detail = "this gateway is about to stop; ask again, at another one"
            raise Problem(503, "draining", detail, retry_after_s=ELSEWHERE_S)
        caller, key = caller_of(request.scope), key_in(request)
        wanted = await wanted_in(request, self.settings.site_url, receivers_of(self.settings))
        keyed = keyed_session(caller, key) if key else None
        trusted = bool(caller.owner) or caller.here
        with received("POST /v1/sessions", request.headers, trusted=trusted, refusals=REFUSALS) as span:
            begun = await self.sessions.begin(wanted, caller=caller, keyed=keyed)
            span.set_attribute("pinstream.session", begun.session)
        headers = {"Location": f"{request.scope['root_path']}/sessions/{begun.session}"}
        if keyed:
            headers["Idempotency-Replayed"] = str(begun.again).lower()
        created = Created(session_id=begun.session, sequence=begun.sequence, webhook_secret=begun.webhook_secret)
        return _json(created, 201, headers)

    async def webhook_secret(self, request: Request) -> Response:
        """`GET /webhook-secret`: one's own."""
        owner, known = caller_of(request.scope).owner, self.sessions.webhook_secrets
        if not owner or known is None:
            detail = "who has no name has no secret; the answer that begins a session with webhooks has one for it"
            raise Problem(403, "nameless", detail)
        return _json(WebhookSecret(webhook_secret=known.shown(owner)))

    async def list(self, request: Request) -> Response:
        """`GET /sessions`: one's own."""
        caller = caller_of(request.scope)
        after, limit = after_in(request), number_in(request, "limit", SESSIONS, 1, MOST_SESSIONS)
        if not caller.listed_as:
            detail = "who has no name has no sessions of their own; ask for each by its id"
            raise Problem(403, "nameless", detail)
        async with answered():
            page = await sessions_of(self.sessions.session_log, caller, after, limit)
        headers = {} if page.next_after is None else _next(request, page.next_after)
        return _json(page, 200, headers)

    async def show(self, request: Request) -> Response:
        """`GET /sessions/{session_id}`"""
        session = session_in(request)
        return _json(await self._session(session, caller_of(request.scope)))

    async def cancel(self, request: Request) -> Response:
        """`DELETE /sessions/{session_id}`"""
        session = session_in(request)
        caller = caller_of(request.scope)
        await self.sessions.cancel(session, caller)
        return _json(await self._session(session, caller))

    async def _session(self, session: str, caller: Caller) -> Session:
        following = await self.sessions.opened(session, 0, caller)
        sequence, completed = 0, None
        async with aclosing(following.stored()) as steps:
            async for frame, *_ in steps:
                sequence = sequence or following.state.sequence
                if isinstance(frame, Completed):
                    completed = frame
        request = following.state.request
        callback = None if request is None else await status_of(self.sessions.session_log.bus, session, request)
        return session_of(following, sequence, completed, callback)

    async def videos(self, request: Request) -> Response:
        """`GET /sessions/{session_id}/videos`"""
        session, after = session_in(request), after_in(request)
        wait_s = number_in(request, "wait", 0, 0, MOST_WAIT_S)
        kind = preferred(",".join(request.headers.getlist("Accept")))
        limit = number_in(request, "limit", VIDEOS if kind == JSON else MAX_RESULT_LIMIT, 1, MAX_RESULT_LIMIT)
        following = await self.sessions.opened(session, after, caller_of(request.scope))
        reading = Reading(following, limit, wait_s, self.draining.over, request.receive)
        if kind == JSON:
            following.state = self.bookmarks.take(session, after) or following.state
            return await self._page(request, reading)
        lines = csv_of(reading) if kind == CSV else ndjson_of(reading)
        try:
            first = await anext(lines, b"")  # what is refused is refused before the answer begins
        except BaseException:
            await lines.aclose()
            raise
        headers = {"Vary": "Accept"}
        if kind == CSV:
            headers["Content-Disposition"] = f'attachment; filename="{session}.csv"'
            kind = f"{CSV}; charset=utf-8; header=present"
        return Streamed(begun_with(first, lines), kind, self.settings.send_timeout_s, headers)

    async def _page(self, request: Request, reading: Reading) -> Response:
        videos: list[msgspec.Raw] = []
        size, next_after = 0, reading.following.after
        async with aclosing(reading.videos()) as found:
            async for video in found:
                videos.append(msgspec.Raw(msgspec.json.encode(video)))
                size, next_after = size + len(bytes(videos[-1])), video.sequence
                if size > PAGE_BYTES:
                    break
        page = {
            "session_id": reading.following.session,
            "videos": videos,
            "next_after": next_after,
            "completed": reading.completed,
        }
        if not reading.completed:
            self.bookmarks.keep(reading.following.session, next_after, reading.following.state)
        body = msgspec.json.encode(page)
        headers = {"Vary": "Accept", "Content-Length": str(len(body))}
        if not reading.completed:
            headers |= _next(request, next_after)
        return Streamed(sliced(body), JSON, self.settings.send_timeout_s, headers)

    async def _unavailable(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, BrokerUnavailable | PublishRefused)
        log.warning("request refused: the broker cannot take it", error=str(error))
        connected = self.sessions.session_log.bus.connected
        why = self.storage.trouble or trouble_of(error, connected=connected)
        return Problem(503, "unavailable", f"{why}; try again", retry_after_s=COME_BACK_S).answer(request)


_PROBLEMS: dict[type[Exception], tuple[int, str, str]] = {
    SessionUnknown: (404, "unknown_session", "session_id"),
    SessionExpired: (410, "expired", "session_id"),
    SequenceUnknown: (422, "unknown_sequence", "after"),
    KeyReused: (422, "key_reused", "Idempotency-Key"),
    KeyEnding: (409, "key_ending", "Idempotency-Key"),
}


def _route(path: str, **answers: Answer) -> Route:
    """One route for all methods, so that a refusal of another names them all."""

    async def answer(request: Request) -> Response:
        return await answers["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, answer, methods=list(answers))


async def _refuse(request: Request, error: Exception) -> Response:
    status, code, field = _PROBLEMS[type(error)]
    return Problem(status, code, str(error), field=field).answer(request)


async def _limited(request: Request, error: Exception) -> Response:
    assert isinstance(error, Limited)
    status = 503 if isinstance(error, Overloaded) else 429
    return Problem(status, error.code, str(error), retry_after_s=error.retry_after_s).answer(request)


async def _not_admitted(request: Request, error: Exception) -> Response:
    headers = {"WWW-Authenticate": "Bearer"}
    return Problem(401, "unauthorized", str(error), headers=headers).answer(request)


def _json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, {"Cache-Control": "no-store", **(headers or {})}, JSON)


def _next(request: Request, after: int) -> dict[str, str]:
    query = request.url.include_query_params(after=after).query
    return {"Link": f'<{request.url.path}?{query}>; rel="next"'}
