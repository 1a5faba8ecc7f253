"""The gateway's routes."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from libs.common.health import Checks, health_routes
from services.gateway.documents import document_routes
from services.gateway.firebase.endpoint import FirebaseEndpoint
from services.gateway.headers import SecureHeaders
from services.gateway.rest import Rest
from services.gateway.security import Security
from services.gateway.tickets import ticket_routes
from services.gateway.websocket import WebSocketEndpoint

STATIC = Path(__file__).parent / "static"


async def page(_request: Request) -> Response:
    """The web page."""
    return FileResponse(STATIC / "index.html")


async def status_page(_request: Request) -> Response:
    """How the whole is, as a page."""
    return FileResponse(STATIC / "status.html")


def gateway_app(
    endpoint: WebSocketEndpoint,
    rest: Rest,
    checks: Checks,
    firebase: FirebaseEndpoint | None = None,
    security: Security | None = None,
) -> ASGIApp:
    """`/`, `/status` pages, `/ws` the protocol, `/v1` REST and tickets, `/docs` and what it shows, `/healthz` and
    `/readyz`.

    `/.ws` and `….json` are Firebase's. Without `security` all are anonymous.
    """
    if security is not None:  # beside REST's own, whose refusals it shares
        rest.app.routes.extend(ticket_routes(security.access.tickets))
    app = Starlette(
        middleware=[] if security is None else security.middleware,
        routes=[
            Route("/", page),
            Route("/status", status_page),
            Mount("/static", StaticFiles(directory=STATIC)),
            WebSocketRoute("/ws", endpoint),
            Mount("/v1", rest.app),
            *document_routes(key_needed=security is not None and not security.settings.anonymous_allowed),
            *health_routes(checks),
            *([] if firebase is None else firebase.routes),
        ],
    )
    app.router.redirect_slashes = False  # they would lead to whatever host a request names
    return SecureHeaders(app)  # outside of what answers to a failure
