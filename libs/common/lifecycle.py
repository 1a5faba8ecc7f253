"""How a service lives: from its settings to its exit code."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
import uvloop

from libs.common.errors import StartFailed
from libs.common.settings import Settings
from libs.common.telemetry import telemetry

EX_UNAVAILABLE = 69  # sysexits.h: what it needs is not there
EX_SOFTWARE = 70

S = TypeVar("S", bound=Settings)

log = structlog.get_logger()


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def run_service(name: str, settings: S, serve: Callable[[S, asyncio.Event], Awaitable[None]]) -> int:
    """Runs `serve` until a signal and returns the exit code: 0, 69 where it could not start, 70 where it broke."""

    async def main() -> None:
        await serve(settings, stop_on_signals())

    with telemetry(settings, name):
        try:
            uvloop.run(main())
        except StartFailed as error:
            log.error("cannot start", error=str(error))
            return EX_UNAVAILABLE
        except Exception as error:
            log.error("stopped by an error", exc_info=error)
            return EX_SOFTWARE
        log.info("stopped")
        return 0
