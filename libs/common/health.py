"""`/healthz` (the process answers), `/readyz` (it can take work), `/metrics`, and the server under every endpoint."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from libs.common import metrics
from libs.common.errors import StartFailed
from libs.common.ports import allow_rebinding
from libs.common.settings import Settings

GRACE_S = 5

log = structlog.get_logger()

Checks = dict[str, Callable[[], bool]]


def health_routes(checks: Checks) -> list[Route]:
    """Routes of the two endpoints. Ready means that every check holds; the answer names each."""

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        states = {name: bool(check()) for name, check in checks.items()}
        return JSONResponse(states, status_code=200 if all(states.values()) else 503)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


def exposition(_request: Request) -> Response:
    """The metrics; Starlette runs it in a thread, for it takes some milliseconds."""
    return Response(metrics.exposition(), media_type=metrics.CONTENT_TYPE)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # `lifecycle` owns the signals


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises StartFailed with a sentence where the port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        allow_rebinding(sock)
        sock.bind((host, port))
        sock.listen(2048)
    except OSError as error:
        sock.close()
        why = "is taken; choose another" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
        raise StartFailed(f"port {port} of {host} {why}") from error
    sock.setblocking(False)
    return sock


@asynccontextmanager
async def http_server(app: ASGIApp, sock: socket.socket) -> AsyncIterator[None]:
    """Serves `app` on `sock` meanwhile; at the end open connections have a few seconds to close."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",  # the gateway alone has the library
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[sock]), name="http server")
    try:
        yield
    finally:
        server.should_exit = True
        await task
        sock.close()


@asynccontextmanager
async def health_server(settings: Settings, usual_port: int, checks: Checks) -> AsyncIterator[None]:
    """Serves these endpoints at HEALTH_PORT, else at the usual port, else (it is taken) at a free one.

    `/metrics` is here alone, for this port is not for strangers.
    """
    host = settings.health_host
    if settings.health_port is not None:
        sock = listen(host, settings.health_port)
    else:
        try:
            sock = listen(host, usual_port)
        except StartFailed:
            sock = listen(host, 0)
    log.info("health endpoints", url=f"http://{host}:{sock.getsockname()[1]}/readyz")
    routes = [*health_routes(checks), Route("/metrics", exposition)]
    async with http_server(Starlette(routes=routes), sock):
        yield
