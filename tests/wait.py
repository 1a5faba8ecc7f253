"""Waiting for something to become true, instead of sleeping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_S = 0.02


async def wait_until(predicate: Callable[[], object], description: str, timeout_s: float = 20.0) -> None:
    """Returns when `predicate()` is true; fails, saying what was waited for, after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout_s:g} s in vain: {description}")
        await asyncio.sleep(POLL_S)


async def wait_for(ask: Callable[[], Awaitable[object]], description: str, timeout_s: float = 20.0) -> None:
    """The same where the answer has to be asked for, such as of the broker."""
    end = time.monotonic() + timeout_s
    while not await ask():
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout_s:g} s in vain: {description}")
        await asyncio.sleep(POLL_S)
