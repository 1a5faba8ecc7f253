"""The WebSocket endpoint, protocol v1: it accepts clients, and sends them elsewhere when the gateway stops."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from libs.common import metrics
from libs.common.frames import SUBPROTOCOL, CloseCode
from services.gateway.connection import Connection
from services.gateway.refusals import spoken
from services.gateway.sessions import Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.storage import Storage

ELSEWHERE = "draining; resume elsewhere"
WEBSOCKET = {"protocol": "websocket"}


class WebSocketEndpoint:
    """Accepts connections, and can close them all."""

    def __init__(self, sessions: Sessions, storage: Storage, settings: GatewaySettings) -> None:
        self.sessions, self.storage = sessions, storage
        self.settings = settings
        self.connections: set[Connection] = set()
        self._draining = False
        self._closed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: one client. Refuses a subprotocol that it does not know."""
        websocket = WebSocket(scope, receive, send)
        offered = websocket.scope.get("subprotocols") or []
        protocol = spoken(offered)
        if offered and protocol is None:
            await websocket.close()
            return
        await websocket.accept(subprotocol=protocol)
        bears_trouble = protocol != SUBPROTOCOL
        connection = Connection(websocket, self.sessions, self.storage, self.settings, bears_trouble=bears_trouble)
        connection.draining = self._draining
        if self._closed:
            await connection.sender.close(CloseCode.DRAINING, ELSEWHERE)
            return
        self.connections.add(connection)
        metrics.open_sockets.add(1, WEBSOCKET)
        try:
            await connection.serve()
        finally:
            metrics.open_sockets.add(-1, WEBSOCKET)
            self.connections.discard(connection)

    async def drain(self) -> None:
        """No new searches from now on; after DRAIN_NOTICE_S every client is told to go on at another gateway."""
        self._draining = True
        for connection in self.connections:
            connection.draining = True
        await asyncio.sleep(self.settings.drain_notice_s)
        self._closed = True
        closing = [connection.sender.close(CloseCode.DRAINING, ELSEWHERE) for connection in self.connections]
        await asyncio.gather(*closing, return_exceptions=True)
