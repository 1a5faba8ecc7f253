"""Firebase's clients, both ways: the routes, and the end of their connections when the gateway stops."""

from __future__ import annotations

import asyncio

from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from libs.common import metrics
from services.gateway.firebase.connection import Connection
from services.gateway.firebase.identity import Authenticator, NoTokens
from services.gateway.firebase.requests import Requests
from services.gateway.firebase.rest import Rest
from services.gateway.sessions import Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.storage import Storage

GOING_AWAY = 1001
KEEP_ALIVE_S = 30.0  # as Firebase's own server does
FIREBASE = {"protocol": "firebase"}
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class FirebaseEndpoint:
    """Accepts connections, and can close them all."""

    def __init__(
        self,
        sessions: Sessions,
        storage: Storage,
        settings: GatewaySettings,
        authenticator: Authenticator | None = None,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        self.sessions, self.settings = sessions, settings
        self.authenticator = authenticator or NoTokens()
        self.keep_alive_s = keep_alive_s
        self.requests = Requests(sessions, storage, settings)
        self.rest = Rest(sessions, self.requests, settings, self.authenticator, keep_alive_s)
        self.connections: set[Connection] = set()
        self._closed = False

    @property
    def routes(self) -> list[BaseRoute]:
        """`/.ws`, and every path that ends with `.json`."""
        return [
            WebSocketRoute("/.ws", self.websocket),
            Route("/{path:path}.json", self.rest.__call__, methods=METHODS),
        ]

    async def websocket(self, websocket: WebSocket) -> None:
        """One client."""
        await websocket.accept()
        connection = Connection(websocket, self.sessions, self.requests, self.settings, self.authenticator)
        if self._closed:
            await connection.sender.close(GOING_AWAY, "go on at another gateway")
            return
        self.connections.add(connection)
        metrics.open_sockets.add(1, FIREBASE)
        try:
            await connection.serve()
        except WebSocketDisconnect:
            return
        finally:
            metrics.open_sockets.add(-1, FIREBASE)
            self.connections.discard(connection)

    async def drain(self) -> None:
        """No new searches from now on; after DRAIN_NOTICE_S all connections end, and clients come back elsewhere."""
        self.requests.draining = True
        await asyncio.sleep(self.settings.drain_notice_s)
        self._closed = True
        self.rest.over.set()
        closing = [each.sender.close(GOING_AWAY, "go on at another gateway") for each in self.connections]
        await asyncio.gather(*closing, return_exceptions=True)
