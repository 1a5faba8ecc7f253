"""Gateways of a test's own, whose callers say who they are in a header, as the access layer finds out otherwise."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common.health import listen
from libs.common.session_log import SessionLog
from services.gateway.app import gateway_app
from services.gateway.callers import SCOPE_KEY, Caller
from services.gateway.queues import Queues
from services.gateway.replicas import Replicas
from services.gateway.rest import Rest
from services.gateway.server import client_server
from services.gateway.sessions import Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.status import Status
from services.gateway.storage import Storage
from services.gateway.webhooks.signing import Secrets
from services.gateway.websocket import WebSocketEndpoint

WANTED = {"search_query": "ceramic glaze", "result_limit": 50}


def as_named(app: ASGIApp) -> ASGIApp:
    """The header `X-Caller` says who asks."""

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        owner = dict(scope.get("headers", [])).get(b"x-caller", b"").decode()
        await app({**scope, SCOPE_KEY: Caller(owner=owner)}, receive, send)

    return named


class RestGateway:
    """A gateway at `address`."""

    def __init__(self, log: SessionLog, **settings: Any) -> None:
        self.settings = GatewaySettings(**settings)
        self.storage = Storage(log, self.settings.storage_check_s)
        sessions = Sessions(log, self.settings.session_deadline_s, secrets=Secrets([b"k" * 32]))
        replicas = Replicas(log.bus)  # that asks nobody
        status = Status(self.settings, replicas, Queues(log.bus), self.storage, None)
        self.rest = Rest(sessions, self.storage, self.settings, status)
        endpoint = WebSocketEndpoint(sessions, self.storage, self.settings)
        self.sock = listen("127.0.0.1", 0)
        self.port = int(self.sock.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"
        self.app = as_named(gateway_app(endpoint, self.rest, {}))


@asynccontextmanager
async def rest_gateway(log: SessionLog, **settings: Any) -> AsyncIterator[RestGateway]:
    """Runs meanwhile."""
    gateway = RestGateway(log, **settings)
    async with client_server(gateway.app, gateway.sock, 5.0):
        yield gateway


@asynccontextmanager
async def http_client(gateway: RestGateway, caller: str = "") -> AsyncIterator[httpx2.AsyncClient]:
    """A client of it."""
    headers = {"X-Caller": caller} if caller else {}
    async with httpx2.AsyncClient(
        base_url=f"http://{gateway.address}", trust_env=False, headers=headers, timeout=30
    ) as client:
        yield client


async def begin(client: httpx2.AsyncClient, headers: dict[str, str] | None = None, **wanted: Any) -> str:
    """The id of a session that was begun just now."""
    answer = await client.post("/v1/sessions", json={**WANTED, **wanted}, headers=headers or {})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["session_id"])


def problem(answer: httpx2.Response) -> tuple[int, str, str | None]:
    """Status, code and field of a problem document, which is one."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document = json.loads(answer.content)
    assert document["status"] == answer.status_code
    assert document["type"] == f"urn:pinstream:{document['code']}"
    assert document["title"] and document["detail"] and document["instance"] == answer.url.path
    return answer.status_code, document["code"], document.get("field")
