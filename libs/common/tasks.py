"""Ending tasks for certain, and what came of them."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

AGAIN_S = 0.5

T = TypeVar("T")


def result_of(task: asyncio.Task[T]) -> T | None:
    """What `task` gave; None while it runs, and where it was cancelled or failed."""
    return task.result() if task.done() and not task.cancelled() and task.exception() is None else None


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancels `tasks` and returns when they have ended; what they raised is dropped.

    Before Python 3.12 a cancellation can be lost inside `asyncio.wait_for`, which libraries use: it is repeated.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)
