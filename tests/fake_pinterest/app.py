"""The site as one application: by the host name it is asked under, or all of it under its own origin."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .cdn import cdn_routes
from .pages import Pages
from .resources import Resources
from .state import State

_STATIC = Path(__file__).parent / "static"
_KINDS = {"": "home", "search": "search_page", "pin": "pin_page", "videos": "media", "_stand_in": "stand_in"}
_IMAGES = ("originals", "170x", "236x", "474x", "736x", "30x30_RS")


def create_app(state: State) -> ASGIApp:
    pages = Pages(state)
    cdn = cdn_routes(state)
    shortener = Route("/url_shortener/{code}/redirect/", pages.short)
    pidgets = Route("/v3/pidgets/pins/info/", pages.pidgets)
    routes: list[BaseRoute] = [
        Host("{sub}.pinimg.com", Router(cdn)),
        Host("pin.it", Router([Route("/{code}", pages.short)])),
        Host("api.pinterest.com", Router([shortener])),
        Host("widgets.pinterest.com", Router([pidgets])),
        Route("/", pages.home),
        *_stand_in_routes(state, pages),
        Route("/_short/{code}", pages.short),
        shortener,
        pidgets,
        *cdn,
        Route("/resource/{name}/get/", Resources(state), methods=["GET", "POST"]),
        Route("/search/{scope}/", pages.search),
        Route("/login/", pages.login),
        Route("/pin/{pin}/", pages.pin),
        Route("/pin/{pin}/sent/", pages.pin),
        Route("/{username}/", pages.user),
        Route("/{username}/{slug}/", pages.board),
        Route("/{username}/{slug}/{section}/", pages.section),
    ]
    return _Counted(Starlette(routes=routes), state)


def _stand_in_routes(state: State, pages: Pages) -> list[BaseRoute]:
    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def requests(request: Request) -> Response:
        """DELETE begins to count anew."""
        if request.method == "DELETE":
            state.forget_requests()
        return JSONResponse({**state.requests, "total": state.requests.total(), "statuses": dict(state.statuses)})

    async def sizes(request: Request) -> Response:
        return JSONResponse({**state.bytes})

    async def recent(request: Request) -> Response:
        return JSONResponse(list(state.recent))

    async def connects(request: Request) -> Response:
        return JSONResponse({**state.connects})

    return [
        Route("/_stand_in/healthz", healthz),
        Route("/_stand_in/requests", requests, methods=["GET", "DELETE"]),
        Route("/_stand_in/bytes", sizes),
        Route("/_stand_in/recent", recent),
        Route("/_stand_in/connects", connects),
        Route("/_stand_in/preview/{pin}", pages.preview),
        Route("/_stand_in/away", pages.away),
        Route("/_stand_in/attachment", pages.attachment),
        Mount("/_stand_in/static", StaticFiles(directory=_STATIC)),
    ]


class _Counted:
    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        kind = _kind(scope["path"])
        target = scope["path"] + ("?" + scope["query_string"].decode() if scope["query_string"] else "")

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._state.seen(kind, scope["method"], target[:300], message["status"])
                heads = [*scope["headers"], *message.get("headers", ())]
                self._state.bytes[kind] += len(target) + sum(len(name) + len(value) + 4 for name, value in heads)
            elif scope["method"] != "HEAD":
                self._state.bytes[kind] += len(message.get("body", b""))
            await send(message)

        await self._app(scope, receive, counting)


def _kind(path: str) -> str:
    first, _, rest = path.strip("/").partition("/")
    if first == "resource":
        return rest.partition("/")[0]
    if first in _IMAGES or "/thumbnails/" in path:
        return "image"
    if first == "videos":
        extension = path.rpartition(".")[2]
        return extension if extension in ("m3u8", "mp4", "cmfv", "cmfa", "vtt", "mpd") else "media"
    return _KINDS.get(first, "other_page")
