"""Pins asked for one by one, where a page of results tells too little of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import structlog

from libs.common.messages import Reason
from services.crawler import listing
from services.crawler.asking import ask
from services.crawler.extract import Extraction
from services.crawler.failure import Refused
from services.crawler.pacing import Pacer, Patience
from services.crawler.tab import Tab

AT_ONCE = 4  # side by side, at the common pace
MOST_ASKED = 60  # of a session whose pages could be read; 20 s at three requests a second

log = structlog.get_logger()


class Meagre:
    """The pins of which readable pages told too little: asked for when the pages are read, the likely ones first."""

    def __init__(self) -> None:
        self._likely: dict[str, None] = {}
        self._others: dict[str, None] = {}

    def note(self, extraction: Extraction) -> None:
        """Adds what one page told too little of."""
        self._likely.update(dict.fromkeys([*extraction.bare, *extraction.badged]))
        self._others.update(dict.fromkeys(extraction.stubs))

    def take(self) -> list[str]:
        """Those that are worth a request; afterwards there are none."""
        pins = list(dict.fromkeys([*self._likely, *self._others]))
        if len(pins) > MOST_ASKED:
            log.info("not every pin is asked for", pins=len(pins), asked=MOST_ASKED)
        self._likely, self._others = {}, {}
        return pins[:MOST_ASKED]


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
        envelope = await patience.fresh().of(lambda: ask(tab, listing.pin(pin), pacer))
    except Refused as refusal:
        if refusal.reason is Reason.UPSTREAM_CHANGED:  # a pin that is gone
            log.info("a pin could not be asked for", pin=pin, why=refusal.message)
            return []
        raise
    return envelope.results
