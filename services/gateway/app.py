"""The gateway's routes."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from libs.common.health import Checks, health_routes
from services.gateway.documents import document_routes
from services.gateway.rest import Rest
from services.gateway.websocket import WebSocketEndpoint

STATIC = Path(__file__).parent / "static"


async def page(_request: Request) -> Response:
    """The web page."""
    return FileResponse(STATIC / "index.html")


def gateway_app(endpoint: WebSocketEndpoint, rest: Rest, checks: Checks) -> Starlette:
    """`/` the page, `/ws` the protocol, `/v1` REST, `/docs` and what it shows, `/healthz` and `/readyz`."""
    return Starlette(
        routes=[
            Route("/", page),
            Mount("/static", StaticFiles(directory=STATIC)),
            WebSocketRoute("/ws", endpoint.__call__),
            Mount("/v1", rest.app),
            *document_routes(),
            *health_routes(checks),
        ]
    )
