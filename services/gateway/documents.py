"""The documents that describe the gateway to machines; the page `/docs` shows them to people."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.gateway.asyncapi import asyncapi_document
from services.gateway.openapi import openapi_document


def document_routes(*, key_needed: bool) -> list[Route]:
    """`/openapi.json`, `/asyncapi.json`."""

    async def openapi(_request: Request) -> Response:
        """REST."""
        return Response(openapi_document(key_needed=key_needed), media_type="application/json")

    async def asyncapi(_request: Request) -> Response:
        """The WebSocket and the events."""
        return Response(asyncapi_document(key_needed=key_needed), media_type="application/json")

    return [Route("/openapi.json", openapi), Route("/asyncapi.json", asyncapi)]
