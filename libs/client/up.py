"""`pinstream up`: everything on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import socket
import sys

from libs.client.errors import BrokerMissing, StackFailed
from libs.client.local import LocalOptions, LocalStack
from libs.common.exit_codes import EX_UNAVAILABLE
from libs.common.ports import allow_rebinding
from libs.common.process import on_stop_signals
from libs.common.settings import without_password


def port_is_free(host: str, port: int) -> bool:
    """Whether one may listen there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        allow_rebinding(sock)
        try:
            sock.bind((host, port))
        except OSError:
            return False
    return True


def say(line: str) -> None:
    """A line for the person at the terminal."""
    print(line, file=sys.stderr, flush=True)


async def interrupted() -> None:
    """Returns when this process is told to stop."""
    stop = asyncio.Event()
    on_stop_signals(stop.set)
    await stop.wait()


async def _up(options: LocalOptions, site: str) -> int:
    stopping = asyncio.create_task(interrupted())
    stack = LocalStack(options)
    starting = asyncio.create_task(stack.start())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            return 0
        starting.result()
        for service in stack.services:
            say(f"  {service.name:<15} ready   process {service.pid}, {service.ready_url}")
        say(f"site       {site}")
        say(f"broker     {without_password(stack.nats_url)}")
        say(f"WebSocket  {stack.ws_url}")
        say(f"web page   {stack.page_url}")
        say(f'try        pinstream search "ceramic glaze" --url {stack.ws_url}')
        say("Ctrl-C stops everything.")
        await stopping
        return 0
    except (BrokerMissing, StackFailed) as error:
        say(f"pinstream: {error}")
        return EX_UNAVAILABLE
    finally:
        say("stopping")
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await stack.stop()


def run_up(options: LocalOptions, site: str) -> int:
    """The command."""
    if not port_is_free(options.gateway_host, options.gateway_port):
        say(f"pinstream: port {options.gateway_port} is taken; choose another with --port")
        return EX_UNAVAILABLE
    say("starting the broker and the services; run `pinstream doctor` if this takes long")
    return asyncio.run(_up(options, site))
