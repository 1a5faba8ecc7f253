"""A gateway in this process that speaks Firebase's protocols, and a client of the WebSocket's, frame by frame."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from libs.common import subjects
from libs.common.health import listen
from libs.common.messages import RequestRecord, SearchRequest
from libs.common.session_log import SessionLog
from services.gateway.app import gateway_app
from services.gateway.callers import Caller, TokenRefused
from services.gateway.firebase.endpoint import FirebaseEndpoint
from services.gateway.firebase.identity import Authenticator
from services.gateway.firebase.tree import key_of
from services.gateway.rest import Rest
from services.gateway.server import client_server
from services.gateway.sessions import Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.storage import Storage
from services.gateway.webhooks.signing import Secrets
from services.gateway.websocket import WebSocketEndpoint
from tests.integration.access import GuardedGateway
from tests.integration.gateway_process import give

ANSWER_S = 10.0


class Names:
    """Takes the tokens that it knows, each of a caller, until one is revoked."""

    def __init__(self, **known: str) -> None:
        self.known = known
        self._holders: list[tuple[str, Callable[[str], None]]] = []

    async def caller_of_token(self, token: str) -> Caller:
        """Its caller."""
        if token not in self.known:
            raise TokenRefused
        return Caller(owner=self.known[token])

    @contextmanager
    def held(self, caller: Caller, on_over: Callable[[str], None]) -> Iterator[None]:
        """Calls `on_over` when a token of the caller is revoked."""
        holder = caller.owner, on_over
        self._holders.append(holder)
        yield
        self._holders.remove(holder)

    def revoke(self, token: str) -> None:
        """It is no longer known."""
        owner = self.known.pop(token)
        for held, on_over in list(self._holders):
            if held == owner:
                on_over("revoked")


class FirebaseGateway:
    """A gateway at `address`."""

    def __init__(self, log: SessionLog, authenticator: Authenticator | None, keep_alive_s: float) -> None:
        settings = GatewaySettings(drain_notice_s=0.0, send_timeout_s=1.0, sessions_per_connection=8)
        storage = Storage(log, settings.storage_check_s)
        self.sessions = Sessions(log, settings.session_deadline_s, check_s=0.2, secrets=Secrets([b"k" * 32]))
        self.firebase = FirebaseEndpoint(self.sessions, storage, settings, authenticator, keep_alive_s)
        self.sock = listen("127.0.0.1", 0)
        self.address = f"127.0.0.1:{self.sock.getsockname()[1]}"
        parts = (self.sessions, storage, settings)
        app = gateway_app(WebSocketEndpoint(*parts), Rest(*parts), {}, self.firebase)
        self.server = client_server(app, self.sock, 2.0)

    @property
    def url(self) -> str:
        """Of its tree."""
        return f"http://{self.address}"


@asynccontextmanager
async def firebase_gateway(
    log: SessionLog, authenticator: Authenticator | None = None, keep_alive_s: float = 30.0
) -> AsyncIterator[FirebaseGateway]:
    """A gateway that is there meanwhile."""
    gateway = FirebaseGateway(log, authenticator, keep_alive_s)
    async with gateway.server:
        yield gateway
        await gateway.firebase.drain()


async def begin(log: SessionLog, session: str, owner: str = "", limit: int = 50) -> None:
    """A session that is in the log, and that no crawler is told of."""
    request = SearchRequest(session=session, query="ceramic glaze", result_limit=limit, requested_at=time.time())
    await log.create(session, subjects.REQUEST, RequestRecord(request=request, owner=owner))


async def give_key(log: SessionLog, session: str, n: int, padding: int = 0) -> str:
    """A new video; its key."""
    return key_of(await give(log, session, n, padding))


class WireClient:
    """Speaks the protocol as the SDK does; `async with wire(gateway) as client`."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.texts: list[str] = []  # of the last message
        self._number = 0

    async def receive(self) -> dict[str, Any]:
        """The next message, put together."""
        async with asyncio.timeout(ANSWER_S):
            self.texts = [str(await self.socket.recv())]
            if len(self.texts[0]) <= 6:
                self.texts = [str(await self.socket.recv()) for _ in range(int(self.texts[0]))]
        message: dict[str, Any] = json.loads("".join(self.texts))
        return message

    async def data(self) -> dict[str, Any]:
        """What the next data message holds."""
        message = await self.receive()
        assert message["t"] == "d", message
        held: dict[str, Any] = message["d"]
        return held

    async def send(self, action: str, **body: Any) -> int:
        """Sends a request; its number."""
        self._number += 1
        await self.socket.send(json.dumps({"t": "d", "d": {"r": self._number, "a": action, "b": body}}))
        return self._number

    async def ask(self, action: str, **body: Any) -> dict[str, Any]:
        """Likewise; its answer, which is the next message."""
        number = await self.send(action, **body)
        answer = await self.data()
        assert answer.get("r") == number, answer
        given: dict[str, Any] = answer["b"]
        return given

    async def listen(self, path: str, **body: Any) -> list[dict[str, Any]]:
        """What comes before a listen is answered by `ok`."""
        number = await self.send("q", **{"p": path, "h": "", **body})
        told: list[dict[str, Any]] = []
        while "r" not in (message := await self.data()):
            told.append(message)
        assert message == {"r": number, "b": {"s": "ok", "d": {}}}
        return told


@asynccontextmanager
async def wire(
    gateway: FirebaseGateway | GuardedGateway, query: str = "v=5&ns=pinstream", headers: dict[str, str] | None = None
) -> AsyncIterator[WireClient]:
    """A client that has been greeted."""
    url = f"ws://{gateway.address}/.ws?{query}"
    async with connect(url, max_size=None, compression=None, additional_headers=headers) as socket:
        client = WireClient(socket)
        hello = await client.receive()
        assert hello["t"] == "c" and hello["d"]["t"] == "h"
        assert hello["d"]["d"].keys() == {"ts", "v", "h", "s"}
        assert (hello["d"]["d"]["v"], hello["d"]["d"]["h"]) == ("5", gateway.address)
        yield client
