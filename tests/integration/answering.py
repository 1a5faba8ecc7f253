"""Answers every search at once, as crawler and dedup would: three videos, and the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from libs.common import subjects
from libs.common.errors import AlreadyExists, BrokerUnavailable
from libs.common.session_log import SessionLog
from tests.integration.gateway_process import finish, give

VIDEOS = 3


@asynccontextmanager
async def answering(log: SessionLog, finishing: bool = True) -> AsyncIterator[None]:
    """Meanwhile; `finishing`: the sessions end."""

    async def answer(message: Any) -> None:
        session = subjects.session_in(f"$KV.{message.subject}")
        with suppress(AlreadyExists, BrokerUnavailable):  # cancelled meanwhile
            for n in range(VIDEOS):
                await give(log, session, n)
            if finishing:
                await finish(log, session, VIDEOS)

    subscription = await log.bus.subscribe("results.*.request", answer)
    try:
        yield
    finally:
        await subscription.unsubscribe()
