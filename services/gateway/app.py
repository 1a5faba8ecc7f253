"""The gateway's routes."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, WebSocketRoute

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
) -> Starlette:
    """`/`, `/status` and `/docs` pages, `/ws` the protocol, `/v1` REST and tickets, the documents, `/healthz` and
    `/readyz`.

    `/.ws` and `….json` are Firebase's. Without `security` all are anonymous.
    """
    return Starlette(
        middleware=[Middleware(SecureHeaders)] if security is None else security.middleware,
        routes=[
            *page_routes(),
            WebSocketRoute("/ws", endpoint),
            *([] if security is None else ticket_routes(security.access.tickets)),
            Mount("/v1", rest.app),
            *document_routes(key_needed=security is not None and not security.settings.anonymous_allowed),
            *health_routes(checks),
            *([] if firebase is None else firebase.routes),
        ],
    )
