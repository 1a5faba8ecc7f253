"""Gateways that know who asks, in the process of the test; several share one broker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeySet
from websockets.asyncio.client import ClientConnection, connect

from libs.common.health import listen
from libs.common.session_log import SessionLog
from services.gateway.app import gateway_app
from services.gateway.firebase.endpoint import FirebaseEndpoint
from services.gateway.rest import Rest
from services.gateway.security import Security, security
from services.gateway.server import client_server
from services.gateway.sessions import Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.storage import Storage
from services.gateway.websocket import WebSocketEndpoint

ISSUER, AUDIENCE = "https://issuer.example", "pinstream"


class GuardedGateway:
    """A gateway at `url` that lets in whom its settings say."""

    def __init__(self, log: SessionLog, settings: GatewaySettings, security: Security) -> None:
        self.security, self.access = security, security.access
        sessions = Sessions(log, 600.0, limits=security.limits)
        storage = Storage(log, 2.0)
        self.endpoint, self.rest = WebSocketEndpoint(sessions, storage, settings), Rest(sessions, storage, settings)
        self.firebase = FirebaseEndpoint(sessions, storage, settings, self.access)
        self.sock = listen(settings.gateway_host, 0)
        self.address = f"127.0.0.1:{self.sock.getsockname()[1]}"
        self.url = f"ws://{self.address}/ws"
        app = gateway_app(self.endpoint, self.rest, {}, self.firebase, security)
        self.server = client_server(app, self.sock, 5.0, proxies=settings.trusted_proxies, waiting=security.waiting)

    def client(self, key: str | None = None, **more: Any) -> connect:
        """A WebSocket with `key` in its header."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return connect(self.url, additional_headers={**headers, **more.pop("headers", {})}, **more)

    async def post(self, path: str, key: str | None = None, **headers: str) -> httpx2.Response:
        """An answer to a request without a body."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            headers["X-API-Key"] = key
        async with httpx2.AsyncClient(base_url=f"http://{self.address}", trust_env=False) as client:
            return await client.post(path, headers=headers)


@asynccontextmanager
async def guarded(log: SessionLog, **settings: Any) -> AsyncIterator[GuardedGateway]:
    """A gateway that serves meanwhile; without further settings it lets nobody in who has no key."""
    told = GatewaySettings(**{"anonymous": "no", **settings})
    async with security(told, log) as secure:
        gateway = GuardedGateway(log, told, secure)
        async with gateway.server:
            yield gateway


class Issuer:
    """One that signs JWTs, and whose public keys are in a file."""

    def __init__(self, folder: Path) -> None:
        self.key = ECKey.generate_key("P-256", {"kid": "one"})
        self.file = folder / "jwks.json"
        self.publish(self.key)

    def publish(self, *keys: Key) -> None:
        """Writes the file."""
        self.file.write_text(json.dumps(KeySet(list(keys)).as_dict(private=False)))

    def settings(self, **more: Any) -> dict[str, Any]:
        """Those of a gateway that believes it."""
        return {"jwks_file": str(self.file), "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, **more}

    def token(self, claims: dict[str, Any], header: dict[str, Any] | None = None, key: Any = None) -> str:
        """A token of those claims, signed; what is None of the header is left out."""
        said = {"alg": "ES256", "kid": "one", **(header or {})}
        told = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(told, claims, key or self.key)


async def ask(client: ClientConnection, operation: str, **parameters: Any) -> dict[str, Any]:
    """The next frame after an operation."""
    await client.send(json.dumps({"operation": operation, "parameters": parameters}))
    frame: dict[str, Any] = json.loads(await client.recv())
    return frame
