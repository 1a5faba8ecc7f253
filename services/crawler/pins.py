"""Pins asked for one by one, where a page of results tells too little of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import structlog

from libs.common.messages import Reason
from services.crawler import pinterest
from services.crawler.asking import ask
from services.crawler.failure import Refused
from services.crawler.pacing import Pacer, Patience
from services.crawler.tab import Tab

AT_ONCE = 4  # side by side, at the common pace

log = structlog.get_logger()


async def by_pin(
    tab: Tab, pins: Sequence[str], pacer: Pacer, patience: Patience
) -> AsyncGenerator[tuple[Sequence[str], list[object]], None]:
    """What the site says of `pins`, some at a time: their ids and the entries. Raises Refused or BrowserFailed."""
    for start in range(0, len(pins), AT_ONCE):
        batch = pins[start : start + AT_ONCE]
        answers = await asyncio.gather(*(_entries(tab, pin, pacer, patience) for pin in batch))
        yield batch, [entry for entries in answers for entry in entries]


async def _entries(tab: Tab, pin: str, pacer: Pacer, patience: Patience) -> list[object]:
    try:
        envelope = await patience.fresh().of(lambda: ask(tab, pinterest.pin(pin), pacer))
    except Refused as refusal:
        if refusal.reason is Reason.UPSTREAM_CHANGED:  # a pin that is gone
            log.info("a pin could not be asked for", pin=pin, why=refusal.message)
            return []
        raise
    return envelope.results
