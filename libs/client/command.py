"""What subcommands of `pinstream` that work at the broker share: exit codes, a sentence on stderr, the connection."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog
import typer

from libs.common.bus import Bus, connect
from libs.common.errors import PinstreamError
from libs.common.exit_codes import EX_UNAVAILABLE
from libs.common.settings import Settings, from_environment

QUIET = 50  # what goes wrong is said in a sentence, not in log lines


def at_broker(name: str, work: Callable[[Bus], Awaitable[int]]) -> None:
    """Runs `work` with a connection of that name to the broker at NATS_URL, and exits with the code that it returns."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(QUIET))

    async def main() -> int:
        settings = from_environment(Settings, os.environ)
        async with connect(settings, name) as bus:
            return await work(bus)

    try:
        code = asyncio.run(main())
    except PinstreamError as error:
        code = sorry(str(error), EX_UNAVAILABLE)
    raise typer.Exit(code)


def sorry(sentence: str, code: int) -> int:
    """Says why on stderr; returns `code`."""
    print(f"pinstream: {sentence}", file=sys.stderr, flush=True)
    return code


def moment(at: float) -> str:
    """Seconds since 1970, as one reads it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
