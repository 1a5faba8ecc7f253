"""The stand-in, listening: `async with FakePinterest() as site`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from .app import create_app
from .proxy import ConnectProxy
from .state import State

_GRACE_S = 1  # what still runs then, hangs on purpose


class FakePinterest:
    """`port` 0 takes a free one. With `tls`, also the real host names behind `proxy`, trusted by `ca_file`."""

    def __init__(
        self, *, port: int = 0, host: str = "127.0.0.1", latency_ms: int = 0, cdn_latency_ms: int = 0, tls: bool = False
    ) -> None:
        self.state = State(latency_ms, cdn_latency_ms)
        self.host, self.port, self.tls = host, port, tls
        self.tls_port: int | None = None
        self.proxy: str | None = None
        self.ca_file: str | None = None
        self._running = AsyncExitStack()

    @property
    def origin(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> FakePinterest:
        async with AsyncExitStack() as starting:
            app = create_app(self.state)
            listener = _bound(self.host, self.port)
            self.port = listener.getsockname()[1]
            await starting.enter_async_context(_Listening(app, listener))
            if self.tls:
                await self._start_tls(starting, app)
            self._running = starting.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

    async def _start_tls(self, starting: AsyncExitStack, app: ASGIApp) -> None:
        from .tls import make_certificates, server_context  # half of the time that a start without it takes

        folder = Path(starting.enter_context(tempfile.TemporaryDirectory(prefix="fake-pinterest-")))
        ca_file, chain_file = make_certificates(folder)
        listener, proxy_listener = _bound(self.host, 0), _bound(self.host, 0)
        self.tls_port = listener.getsockname()[1]
        self.proxy = f"http://{self.host}:{proxy_listener.getsockname()[1]}"
        self.ca_file = str(ca_file)
        await starting.enter_async_context(_Listening(app, listener, server_context(chain_file)))
        assert self.tls_port
        await starting.enter_async_context(ConnectProxy(proxy_listener, self.tls_port, self.state.connects))


class _Listening:
    def __init__(self, app: ASGIApp, listener: socket.socket, context: ssl.SSLContext | None = None) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=_GRACE_S,
            timeout_keep_alive=75,
        )
        config.load()
        config.ssl = context
        self._server, self._listener = _Server(config), listener
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        # A connection cut on purpose is no news.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))

    async def __aexit__(self, *_: object) -> None:
        assert self._task
        self._server.should_exit = True
        await self._task


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals are __main__'s; two servers run in one process


def _bound(host: str, port: int) -> socket.socket:
    # asyncio turns Nagle's delay off (40 ms an answer) only where the protocol is spelt out.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(2048)
    listener.setblocking(False)
    return listener
