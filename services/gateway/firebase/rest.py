"""The REST way: any path of the tree with `.json` behind it, once or as a stream of events."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common.errors import BrokerUnavailable
from services.gateway.callers import TokenRefused, caller_of
from services.gateway.firebase.answers import JSON, EventStream, ValueAnswer
from services.gateway.firebase.hashes import EMPTY, hash_of
from services.gateway.firebase.identity import APP_CHECK, AUTH, Authenticator, Identity
from services.gateway.firebase.query import ALL, QueryRefused, query_in
from services.gateway.firebase.requests import RequestRefused, Requests, Unavailable, new_push_id
from services.gateway.firebase.tree import REQUESTS, PermissionDenied, dig, path_of, place_of
from services.gateway.firebase.watch import Watch
from services.gateway.limits import Limited
from services.gateway.problems import retry_after
from services.gateway.sessions import Sessions
from services.gateway.settings import GatewaySettings

MOST_BODY_BYTES = 64 * 1024  # a query of 500 characters and all filters are two kB
BODY_WITHIN_S = 10.0
NO_ETAG = "null_etag"
TOKENS = ("auth", "access_token")
STATUS: dict[type[Exception], int] = {
    PermissionDenied: 401,
    TokenRefused: 401,
    QueryRefused: 400,
    RequestRefused: 400,
    Limited: 429,
    Unavailable: 503,
    BrokerUnavailable: 503,
}


class Rest:
    """Answers requests; `over` ends the streams."""

    def __init__(
        self,
        sessions: Sessions,
        requests: Requests,
        settings: GatewaySettings,
        authenticator: Authenticator,
        keep_alive_s: float,
    ) -> None:
        self.sessions, self.requests = sessions, requests
        self.settings = settings
        self.authenticator = authenticator
        self.keep_alive_s = keep_alive_s
        self.limits = sessions.limits
        self.over = asyncio.Event()
        self.streams = 0  # under way

    async def __call__(self, request: Request) -> ASGIApp:
        """One request."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            with Identity(caller_of(request.scope), self.authenticator) as identity:
                try:
                    await self._identify(request, identity)
                    app = await self._answer(request, identity)
                except tuple(STATUS) as error:
                    later = retry_after(error.retry_after_s) if isinstance(error, Unavailable | Limited) else {}
                    app = _json({"error": str(error)}, request, STATUS[type(error)], later)
                await app(scope, receive, send)

        return answer

    async def _answer(self, request: Request, identity: Identity) -> ASGIApp:
        method = request.headers.get("x-http-method-override", request.method).upper()
        path = str(request.path_params["path"])
        match method, path_of(path):
            case "GET" | "HEAD", _:
                return await self._get(request, path, identity)
            case "POST", (where,) if where == REQUESTS:
                push_id = new_push_id()
                await self.requests.put(push_id, await _body(request), identity.caller)
                return _json({"name": push_id}, request)
            case "PUT", (where, push_id) if where == REQUESTS:
                return _json(await self.requests.put(push_id, await _body(request), identity.caller), request)
        raise PermissionDenied

    async def _identify(self, request: Request, identity: Identity) -> None:
        token = next((request.query_params[name] for name in TOKENS if name in request.query_params), None)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if token is None and scheme.lower() == "bearer" and not identity.came_as.owner:
            token = given.strip()
        if token:
            await identity.take(AUTH, token)
        checked = request.query_params.get("ac") or request.headers.get("x-firebase-appcheck")
        if checked and not identity.caller.owner:
            await identity.take(APP_CHECK, checked)
        if self.limits is not None and identity.caller.owner != identity.came_as.owner:  # the gate has counted that one
            await self.limits.request(identity.caller)

    async def _get(self, request: Request, path: str, identity: Identity) -> ASGIApp:
        query, place = query_in(request.query_params), place_of(path)
        streamed = "text/event-stream" in request.headers.get("accept", "")
        watch, value, storage = None, None, self.requests.storage
        if place is not None:
            query.check(place.path)
        if place is not None and place.request:
            value = dig(await self.requests.value(place.name, identity.caller), place.path)
        elif place is not None:
            watch = Watch(self.sessions, place, query, identity.caller, storage, patient=streamed)
        if streamed:
            send_timeout_s = self.settings.send_timeout_s
            stream = EventStream(watch, value, identity, storage, self.over, self.keep_alive_s, send_timeout_s)
            return self._counted(stream)
        shallow = request.query_params.get("shallow") == "true"
        if shallow and query != ALL:
            raise QueryRefused("shallow and other query parameters exclude each other")
        headers = {}
        if request.headers.get("x-firebase-etag") == "true" or "if-none-match" in request.headers:
            headers = {"ETag": await _etag(watch, value)}
            if request.headers.get("if-none-match") == headers["ETag"]:
                return Response(status_code=304, headers=headers)
        if watch is None:
            return _json(value, request, headers=headers)
        pieces = watch.pieces(shallow=shallow)
        if "print" in request.query_params:
            text = "".join([piece async for piece in pieces])
            return _json(msgspec.json.decode(text), request, headers=headers)
        first = await anext(pieces)
        return ValueAnswer(first, pieces, headers, identity, self.settings.send_timeout_s)

    def _counted(self, stream: EventStream) -> ASGIApp:
        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            self.streams += 1
            try:
                await stream(scope, receive, send)
            finally:
                self.streams -= 1

        return counted


async def _etag(watch: Watch | None, value: Any) -> str:
    if watch is not None:
        async for _ in watch.missing(EMPTY):
            pass
    return (hash_of(value) if watch is None else watch.hash) or NO_ETAG


async def _body(request: Request) -> Any:
    """The JSON that was sent. Raises RequestRefused."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for piece in request.stream():
                body += piece
                if len(body) > MOST_BODY_BYTES:
                    raise RequestRefused(f"the body has more than {MOST_BODY_BYTES} bytes")
        return msgspec.json.decode(bytes(body))
    except (TimeoutError, ClientDisconnect) as error:
        raise RequestRefused("the body did not come to its end") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RequestRefused("Invalid data; couldn't parse JSON object.") from error


def _json(value: Any, request: Request, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    style = request.query_params.get("print")
    known = {"Cache-Control": "no-cache", **(headers or {})}
    if status == 200 and style == "silent":
        return Response(status_code=204, headers=known)
    body = msgspec.json.encode(value)
    if style == "pretty":
        body = msgspec.json.format(body, indent=2)
    return Response(body, status, known, JSON)
