"""Conformance to RFC 6455: the cases of the Autobahn test suite, as kosoku runs them under Python 3.

An echo behind all that stands before the gateway's own socket, on its own server, fails where uvicorn's plain echo does
and nowhere else. Left out are the cases of large messages (9.*), beyond what the gateway takes, and of compression
(12.*, 13.*), which it does not speak: 247 are left.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import kosoku
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common.health import listen
from libs.common.session_log import SessionLog
from services.gateway.security import security
from services.gateway.server import client_server
from services.gateway.settings import GatewaySettings
from tests.wait import wait_until

LEFT_OUT = ("9.*", "12.*", "13.*")
CASES = 247
AT_ONCE = 8


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI: every message comes back."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def hang_up(_scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI: the first message is the last."""
    await receive()
    await send({"type": "websocket.accept"})
    await receive()
    await send({"type": "websocket.close"})


@asynccontextmanager
async def plain(app: ASGIApp) -> AsyncIterator[str]:
    """Uvicorn as it comes."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, ws="websockets-sansio", lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        await wait_until(lambda: server.started, "it serves")
        try:
            yield f"ws://127.0.0.1:{sock.getsockname()[1]}/"
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def ours(app: ASGIApp, log: SessionLog) -> AsyncIterator[str]:
    """The gateway's server with the gateway's headers, origins, door and gate."""
    settings = GatewaySettings(anonymous="yes")
    async with security(settings, log) as secure:
        guarded = Starlette(middleware=secure.middleware, routes=[Mount("/ws", app)])
        sock = listen("127.0.0.1", 0)
        async with client_server(guarded, sock, 1.0):
            yield f"ws://127.0.0.1:{sock.getsockname()[1]}/ws/"


async def outcomes(url: str, cases: Sequence[str] | None = None) -> dict[str, bool]:
    """Whether each case, of those or of all, was passed."""
    try:
        results = await kosoku.run_fuzzingclient(url, cases, LEFT_OUT, AT_ONCE)
    except kosoku.FailureError as error:
        results = error.results
    return {result.case_id: result.passed for result in results}


def failed(found: dict[str, bool]) -> set[str]:
    return {case for case, passed in found.items() if not passed}


async def test_the_gateways_server_fails_no_case_that_uvicorns_plain_echo_passes(log: SessionLog) -> None:
    async with plain(echo) as url:
        usual = await outcomes(url)
    async with ours(echo, log) as url:
        found = await outcomes(url)
        more = failed(found) - failed(usual)
        if more:  # a busy machine may let a case run out of time
            found |= await outcomes(url, sorted(more))
    print("uvicorn's plain echo fails", sorted(failed(usual)), "and the gateway's", sorted(failed(found)))
    assert len(usual) == len(found) == CASES
    assert failed(found) <= failed(usual)


async def test_a_server_that_does_not_echo_is_found_out(log: SessionLog) -> None:
    async with ours(hang_up, log) as url:
        found = await outcomes(url, ["1.1.*"])
    assert failed(found) == {f"1.1.{n}" for n in range(1, 9)}
