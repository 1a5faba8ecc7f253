"""How a service lives: from its settings to its exit code."""

from __future__ import annotations

import asyncio
import faulthandler
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog

from libs.common.errors import BrokerUnavailable, StartFailed
from libs.common.exit_codes import EX_SOFTWARE, EX_UNAVAILABLE
from libs.common.loop import run_main
from libs.common.process import on_leash, on_stop_signals
from libs.common.settings import Settings
from libs.common.tasks import end
from libs.common.telemetry import telemetry

STILL_S = 45.0  # a loop that has not come round for so long is held by something that will not end
STILL_CHECK_S = 3.0

S = TypeVar("S", bound=Settings)

log = structlog.get_logger()


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets, and the end of a parent."""
    stop = asyncio.Event()
    on_stop_signals(stop.set)
    on_leash(stop.set)
    return stop


@asynccontextmanager
async def watched(still_s: float) -> AsyncIterator[None]:
    """Ends the process, with exit code 1 and what it was doing on standard error, if its loop stands still so long.

    A message whose handler spins would otherwise keep its process, and all that this one has in hand, for ever.
    """

    async def rearm() -> None:
        while True:
            faulthandler.dump_traceback_later(still_s, exit=True)
            await asyncio.sleep(STILL_CHECK_S)

    task = asyncio.create_task(rearm(), name="watch")
    try:
        yield
    finally:
        await end(task)
        faulthandler.cancel_dump_traceback_later()


def run_service(
    name: str, settings: S, serve: Callable[[S, asyncio.Event], Awaitable[None]], still_s: float = STILL_S
) -> int:
    """Runs `serve` until a signal and returns the exit code: 0, 69 where it lacks what it needs, 70 where it broke."""

    async def main() -> None:
        async with watched(still_s):
            await serve(settings, stop_on_signals())

    with telemetry(settings, name):
        try:
            run_main(main())
        except StartFailed as error:
            log.error("cannot start", error=str(error))
            return EX_UNAVAILABLE
        except BrokerUnavailable as error:
            log.error("stopped, for the broker is lost", error=str(error))
            return EX_UNAVAILABLE
        except Exception as error:
            log.error("stopped by an error", exc_info=error)
            return EX_SOFTWARE
        log.info("stopped")
        return 0
