"""The server under the gateway: one whose clients cannot hold more than a bound, and who hear why they are closed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from libs.common.tasks import end
from services.gateway.certificate import Certificate

MAX_WS_BYTES = 4 * 1024 * 1024  # beyond it the connection is closed with 1009 before the text is held in memory
SEND_BUFFER_BYTES = 256 * 1024  # of the kernel, for a client; it would grow to megabytes of what nobody reads
PING_EVERY_S = 20
PONG_WITHIN_S = 40  # a pong waits behind what a slow client has yet to read
ABORT = "pinstream.abort"  # the ASGI extension that drops a connection with what its client has not read
LINGER_S = 30.0  # a closed client that reads on within it learns the code; then it is dropped with what it holds


class ClientProtocol(WebSocketsSansIOProtocol):
    """Writes a close frame at once, behind what the client has not read: a send waits until it reads."""

    async def send(self, message: Any) -> None:
        """As ASGI has it."""
        if message["type"] == "websocket.close":
            self.writable.set()
            self.loop.call_later(LINGER_S, self.transport.abort)
        await super().send(message)


class RequestProtocol(H11Protocol):
    """Lets an answer that its client does not take be dropped, by the extension ABORT."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Asyncio's."""
        super().connection_made(transport)
        app = self.app

        async def with_abort(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[ABORT] = transport.abort
            await app(scope, receive, send)

        self.app = with_abort

    def timeout_keep_alive_handler(self) -> None:
        """A connection that is closed lasts until its client has read all."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(LINGER_S, self.transport.abort)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # `lifecycle` owns the signals


@asynccontextmanager
async def client_server(
    app: ASGIApp,
    sock: socket.socket,
    grace_s: float,
    *,
    certificate: Certificate | None = None,
    proxies: Sequence[str] = (),
) -> AsyncIterator[None]:
    """Serves `app` on `sock` meanwhile; at the end open connections have `grace_s` to close.

    With a `certificate` by TLS. What `proxies` say of their clients' addresses is believed.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # what is accepted inherits it
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        http=RequestProtocol,
        ws=ClientProtocol,
        ws_max_size=MAX_WS_BYTES,
        ws_ping_interval=PING_EVERY_S,
        ws_ping_timeout=PONG_WITHIN_S,
        ws_per_message_deflate=False,  # hundreds of kB a connection to save one kB a frame
        timeout_graceful_shutdown=max(1, round(grace_s)),
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        ssl_context_factory=None if certificate is None else lambda _config, _default: certificate.context,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[sock]), name="client server")
    watching = [] if certificate is None else [asyncio.create_task(certificate.watch(), name="certificate")]
    try:
        yield
    finally:
        await end(*watching)
        server.should_exit = True
        await task
        sock.close()
