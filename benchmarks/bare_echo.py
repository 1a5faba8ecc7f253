"""The bare echo: the gateway's own server under four lines of ASGI. `python -m benchmarks.bare_echo PORT`."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from starlette.types import Receive, Scope, Send

from libs.common.health import listen
from libs.common.lifecycle import stop_on_signals
from services.gateway.open_files import raise_open_files
from services.gateway.server import client_server

PROXY = "127.0.0.1"


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI: every message comes back."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def serve(port: int, stop: asyncio.Event) -> None:
    """Until `stop`."""
    async with client_server(echo, listen("127.0.0.1", port), 1.0, proxies=(PROXY,)):
        await stop.wait()


async def main() -> None:
    """Until a signal."""
    await serve(int(sys.argv[1]), stop_on_signals())


if __name__ == "__main__":
    raise_open_files()
    uvloop.run(main())
