"""The gateway's routes."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.types import ASGIApp

from libs.common.health import Checks, health_routes
from services.gateway.documents import document_routes
from services.gateway.firebase.endpoint import FirebaseEndpoint
from services.gateway.headers import SecureHeaders
from services.gateway.pages import page_routes
from services.gateway.rest import Rest
from services.gateway.security import Security
from services.gateway.tickets import ticket_routes
from services.gateway.websocket import WebSocketEndpoint


def gateway_app(
    endpoint: WebSocketEndpoint,
    rest: Rest,
    checks: Checks,
    firebase: FirebaseEndpoint | None = None,
    security: Security | None = None,
) -> ASGIApp:
    """`/`, `/status` and `/docs` pages, `/ws` the protocol, `/v1` REST and tickets, the documents, `/healthz` and
    `/readyz`.

    `/.ws` and `….json` are Firebase's. Without `security` all are anonymous.
    """
    if security is not None:  # beside REST's own, whose refusals it shares
        rest.app.routes.extend(ticket_routes(security.access.tickets))
    app = Starlette(
        middleware=[] if security is None else security.middleware,
        routes=[
            *page_routes(),
            WebSocketRoute("/ws", endpoint),
            Mount("/v1", rest.app),
            *document_routes(key_needed=security is not None and not security.settings.anonymous_allowed),
            *health_routes(checks),
            *([] if firebase is None else firebase.routes),
        ],
    )
    app.router.redirect_slashes = False  # they would lead to whatever host a request names
    return SecureHeaders(app)  # outside of what answers to a failure
