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
MOST_ASKED = 600  # of a session whose pages could be read; 200 s at three requests a second
SUSPICIOUS = 4  # pins, none of which the site knows

log = structlog.get_logger()


class Meagre:
    """The pins of which readable pages told too little: asked for when the pages are read, the likely ones first."""

    def __init__(self) -> None:
        self._likely: dict[str, None] = {}
        self._others: dict[str, None] = {}
        self.left_out = 0

    def note(self, extraction: Extraction) -> None:
        """Adds what one page told too little of."""
        self._likely.update(dict.fromkeys([*extraction.bare, *extraction.badged]))
        self._others.update(dict.fromkeys(extraction.stubs))

    def take(self) -> list[str]:
        """Those that are worth a request; they stay, for a browser that fails meanwhile."""
        pins = list(dict.fromkeys([*self._likely, *self._others]))
        self.left_out = max(len(pins) - MOST_ASKED, 0)
        return pins[:MOST_ASKED]

    def check(self) -> None:
        """Raises Refused where there were too many to ask for each."""
        if self.left_out:
            message = f"The site told too little of {MOST_ASKED + self.left_out} pins, of which {MOST_ASKED} were asked"
            raise Refused(Reason.UPSTREAM_CHANGED, f"{message} for one by one; try again later.")


async def by_pin(
    tab: Tab, pins: Sequence[str], pacer: Pacer, patience: Patience
) -> AsyncGenerator[tuple[Sequence[str], list[object]], None]:
    """What the site says of `pins`, some at a time: their ids and the entries. Raises Refused or BrowserFailed."""
    told = False
    for start in range(0, len(pins), AT_ONCE):
        batch = pins[start : start + AT_ONCE]
        asked = (_entries(tab, pin, pacer, patience) for pin in batch)
        answers = await asyncio.gather(*asked, return_exceptions=True)  # one that fails must not leave others running
        if entries := [entry for answer in answers if isinstance(answer, list) for entry in answer]:
            told = True
            yield [pin for pin, answer in zip(batch, answers, strict=True) if isinstance(answer, list)], entries
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
    if len(pins) >= SUSPICIOUS and not told:
        message = "The site knows none of the pins that it shows when they are asked for one by one; try again later."
        raise Refused(Reason.UPSTREAM_CHANGED, message)


async def _entries(tab: Tab, pin: str, pacer: Pacer, patience: Patience) -> list[object]:
    try:
        envelope = await patience.fresh().of(lambda: ask(tab, listing.pin(pin), pacer))
    except Refused as refusal:
        if refusal.reason is Reason.UPSTREAM_CHANGED and not refusal.transient:  # a pin that is gone
            log.info("a pin could not be asked for", pin=pin, why=refusal.message)
            return []
        raise refusal.final() from refusal
    return envelope.results
