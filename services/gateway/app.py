"""The gateway's routes."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from libs.common.health import Checks, health_routes
from services.gateway.firebase.endpoint import FirebaseEndpoint
from services.gateway.websocket import WebSocketEndpoint

STATIC = Path(__file__).parent / "static"


async def page(_request: Request) -> Response:
    """The web page."""
    return FileResponse(STATIC / "index.html")


def gateway_app(endpoint: WebSocketEndpoint, checks: Checks, firebase: FirebaseEndpoint | None = None) -> Starlette:
    """`/` the page, `/ws` the protocol, `/.ws` and `….json` Firebase's, `/healthz` and `/readyz`."""
    return Starlette(
        routes=[
            Route("/", page),
            Mount("/static", StaticFiles(directory=STATIC)),
            WebSocketRoute("/ws", endpoint.__call__),
            *health_routes(checks),
            *([] if firebase is None else firebase.routes),
        ]
    )
