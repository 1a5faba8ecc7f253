"""The server under the gateway: one whose clients cannot hold more than a bound, and who hear why they are closed."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import unquote

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from libs.common.frames import CloseCode
from libs.common.pace import Rate
from libs.common.tasks import end
from services.gateway.access_settings import trusted_networks
from services.gateway.certificate import Certificate
from services.gateway.rates import Allowance
from services.gateway.waiting import Waiting

MAX_WS_BYTES = 4 * 1024 * 1024  # beyond it the connection is closed with 1009 before the text is held in memory
SEND_BUFFER_BYTES = 256 * 1024  # of the kernel, for a client; it would grow to megabytes of what nobody reads
PING_EVERY_S = 20
PONG_WITHIN_S = 40  # a pong waits behind what a slow client has yet to read
ABORT = "pinstream.abort"  # the ASGI extension that drops a connection with what its client has not read
RECEIVE_BUFFER_BYTES = 32 * 1024  # doubled by the kernel: what is read at once, of which 10,000 pings take 50 ms
SMALL_FRAMES = Rate(50.0, 1000)
REQUEST_S = 20.0  # from the first byte of a request to its last
ABSOLUTE = re.compile(rb"https?://([^/]+)", re.IGNORECASE)
LINGER_S = 30.0  # a closed client that reads on within it learns the code; then it is dropped with what it holds


class ClientProtocol(WebSocketsSansIOProtocol):
    """Holds what a client makes it hold within bounds, and lets one that is closed hear why.

    A close frame is written at once, behind what the client has not read, where a send waits until it reads. Pings,
    pongs and fragments are counted, as messages are (`intake.py`): each costs as much as a message, pongs pile up
    before who reads none, and fragments without a byte are kept however large a message may be.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._small = Allowance(SMALL_FRAMES)
        self._drop: asyncio.TimerHandle | None = None

    async def send(self, message: Any) -> None:
        """As ASGI has it."""
        if message["type"] == "websocket.close":
            self.writable.set()
            self._drop_later()
        await super().send(message)
        if message["type"] == "websocket.accept":
            del self.request, self.response  # kilobytes of headers, which the scope has too

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's."""
        if self._drop is not None:
            self._drop.cancel()
        super().connection_lost(exc)

    def handle_ping(self) -> None:
        """Uvicorn's, as are those below."""
        if self._bears_one_more():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        if self._bears_one_more():
            super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        if self._bears_one_more():
            super().handle_cont(event)
            event.data = b""  # the parser keeps the last frame until the next one comes

    def handle_text(self, event: Frame) -> None:
        super().handle_text(event)
        event.data = b""

    def handle_close(self, event: Frame) -> None:
        super().handle_close(event)
        self._drop_later()

    def handle_parser_exception(self) -> None:
        super().handle_parser_exception()
        self._drop_later()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._drop_later()

    def _bears_one_more(self) -> bool:
        if self.close_sent or self._small.take() == 0:
            return not self.close_sent
        self.conn.fail(CloseCode.RATE_LIMITED, "too many pings, pongs or fragments; come back slower")
        if self.conn.close_sent is None:  # before it is accepted there is nothing to close
            self.transport.abort()
        else:
            self.handle_parser_exception()
        return False

    def _drop_later(self) -> None:
        if self._drop is None:
            self._drop = self.loop.call_later(LINGER_S, self.transport.abort)


class RequestProtocol(H11Protocol):
    """Drops who does not end the request that was begun, and lets an answer that its client does not take be dropped,
    by the extension ABORT. Of those that `waiting` has too many of it drops the new ones. An address as it is told to a
    proxy is that at its host (RFC 9112, 3.2.2)."""

    waiting: Waiting | None = None
    _unasked: asyncio.TimerHandle | None = None
    _place = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Asyncio's."""
        super().connection_made(transport)
        app = self.app

        async def with_abort(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[ABORT] = transport.abort
            if absolute := ABSOLUTE.match(scope["raw_path"]):
                _at_its_host(scope, absolute)
            await app(scope, receive, send)

        self.app = with_abort
        if self.waiting is not None and self.client is not None:
            self._place = self.waiting.place(self.client[0])
            if self.waiting.full(self._place):
                transport.abort()
                return
        self._wait_for_the_rest()

    def data_received(self, data: bytes) -> None:
        """Asyncio's."""
        super().data_received(data)
        self._wait_for_the_rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's."""
        self._wait_no_more()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """A connection that is closed lasts until its client has read all."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(LINGER_S, self.transport.abort)

    def _wait_for_the_rest(self) -> None:
        mine = self.transport.get_protocol() is self  # not a WebSocket by now
        unasked = mine and self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if unasked and self._unasked is None:
            self._unasked = self.loop.call_later(REQUEST_S, self.transport.abort)
            if self.waiting is not None:
                self.waiting.move(self._place, 1)
        elif not unasked:
            self._wait_no_more()

    def _wait_no_more(self) -> None:
        if self._unasked is None:
            return
        self._unasked.cancel()
        self._unasked = None
        if self.waiting is not None:
            self.waiting.move(self._place, -1)


def _at_its_host(scope: Scope, absolute: re.Match[bytes]) -> None:
    raw = scope["raw_path"][absolute.end() :] or b"/"
    headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
    scope.update(path=unquote(raw.decode("ascii")), raw_path=raw, headers=[(b"host", absolute[1]), *headers])


def _of_ours(record: logging.LogRecord) -> bool:
    """No line for a client's text that is no UTF-8, which uvicorn takes for an error: the client is told by 1007."""
    return not str(record.msg).startswith("Invalid UTF-8 sequence")


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
    waiting: Waiting | None = None,
) -> AsyncIterator[None]:
    """Serves `app` on `sock` meanwhile; at the end open connections have `grace_s` to close.

    With a `certificate` by TLS. What `proxies` say of their clients' addresses is believed. `waiting` bounds
    how many of an address may have connected without having asked.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # what is accepted inherits both
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        http=type("RequestProtocol", (RequestProtocol,), {"waiting": waiting}),
        ws=ClientProtocol,
        ws_max_size=MAX_WS_BYTES,
        ws_ping_interval=PING_EVERY_S,
        ws_ping_timeout=PONG_WITHIN_S,
        ws_per_message_deflate=False,  # hundreds of kB a connection to save one kB a frame
        timeout_graceful_shutdown=max(1, round(grace_s)),
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=[str(network) for network in trusted_networks(proxies)],
        ssl_context_factory=None if certificate is None else lambda _config, _default: certificate.context,
    )
    logger = logging.getLogger("uvicorn.error")
    logger.setLevel(logging.WARNING)  # a line for each connection is an access log
    logger.addFilter(_of_ours)
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
