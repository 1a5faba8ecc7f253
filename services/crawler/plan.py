"""What of a source is read, and in which order: its listings, found by asking the site where that takes it."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol

import structlog

from libs.common.messages import Reason
from libs.common.source import (
    BoardSource,
    PinSource,
    RelatedSource,
    SearchSource,
    SectionSource,
    ShortLink,
    Source,
    UserSource,
)
from services.crawler import listing
from services.crawler.asking import Ask
from services.crawler.board import NO_BOARD, Board, Section
from services.crawler.failure import CrawlFailed, Refused
from services.crawler.listing import Listing
from services.crawler.value import table

NO_SECTION = "There is no such section of a board, or it is private."
NO_USER = "There is no such user, or the profile is private."
NO_PIN = "There is no such pin, or it is private."

log = structlog.get_logger()


class OnePin(NamedTuple):
    """A pin that is read by itself."""

    pin: str


Step = Listing | OnePin


class Plan(Protocol):
    """`missing` is what to say where the site has nothing there; None where it is the site that has changed then."""

    missing: str | None

    async def next(self, ask: Ask, *, by_page: bool) -> Step | None:
        """What is to be read now; None at the end. It may be called again after it raised. Raises Refused, CrawlFailed.

        `by_page` says that the page will be read, for which the path is enough.
        """

    def read(self, pins: set[str]) -> None:
        """The last step was read, and had these pins."""


def plan_of(source: Source) -> Plan:
    """The plan for a source that is no short link any more."""
    match source:
        case SearchSource(query=query):
            return InOrder([listing.of_search(query)], None)
        case BoardSource(username=username, slug=slug):
            return BoardPlan(username, slug)
        case SectionSource(username=username, slug=slug, section=section):
            return SectionPlan(username, slug, section)
        case UserSource():
            return UserPlan(source)
        case PinSource(pin=pin):
            return InOrder([OnePin(pin)], NO_PIN)
        case RelatedSource(pin=pin):
            return InOrder([listing.of_related(pin)], NO_PIN)
        case ShortLink():
            raise ValueError("a short link is followed before it is read")


class InOrder:
    """Steps that are known beforehand."""

    def __init__(self, steps: list[Step], missing: str | None) -> None:
        self.missing = missing
        self.pins: set[str] = set()
        self._steps = deque(steps)

    async def next(self, ask: Ask, *, by_page: bool) -> Step | None:
        """The next of them."""
        return self._steps.popleft() if self._steps else None

    def read(self, pins: set[str]) -> None:
        """Adds to `pins`."""
        self.pins |= pins


class UserPlan(InOrder):
    """What a user created, then what the user saved. A user without a pin may be none: that is asked."""

    def __init__(self, source: UserSource) -> None:
        steps: list[Step] = [listing.of_created(source.username)] if source.created else []
        super().__init__([*steps, *([listing.of_saved(source.username)] if source.saved else [])], NO_USER)
        self._username = source.username
        self._checked = False

    async def next(self, ask: Ask, *, by_page: bool) -> Step | None:
        """The next of the two; raises CrawlFailed where there is no such user."""
        step = await super().next(ask, by_page=by_page)
        if step is None and not self.pins and not self._checked:
            self._checked = True
            await self._check(ask)
        return step

    async def _check(self, ask: Ask) -> None:
        try:
            said = table((await ask(listing.user(self._username))).data)
        except Refused as refusal:
            if refusal.missing:
                raise CrawlFailed(Reason.NOT_FOUND, NO_USER) from refusal
            log.info("a user without pins could not be asked for", why=refusal.message)
            return
        if said.get("is_private_profile") is True:
            raise CrawlFailed(Reason.NOT_FOUND, NO_USER)


class BoardPlan:
    """A board's own list, then those of its sections, in case the first leaves their pins out."""

    missing: str | None = NO_BOARD

    def __init__(self, username: str, slug: str) -> None:
        self.pins: set[str] = set()
        self._board = Board(username, slug)
        self._begun = self._was_read = False
        self._refused: Refused | None = None
        self._sections: deque[Section] | None = None
        self._at_section = False

    async def next(self, ask: Ask, *, by_page: bool) -> Step | None:
        """The board, then its sections one by one."""
        if not self._begun:
            if not (by_page and self._refused):
                await self._look_up(ask, by_page=by_page)
            self._begun = True
            return self._board.listing
        if not self._was_read:
            return None
        if self._refused is not None:
            message = f"Whether the board has sections could not be learnt: {self._refused.message}"
            reason = Reason.UPSTREAM_CHANGED if self._refused.missing else self._refused.reason
            raise Refused(reason, message)
        if self._sections is None:
            self._sections = deque(await self._board.sections(ask) if self._may_lack_sections else [])
        if not self._sections:
            return None
        self._at_section = True
        section = self._sections.popleft()
        return listing.of_section(self._board.username, self._board.slug, section.slug, section.id)

    def read(self, pins: set[str]) -> None:
        """Passes over the other sections where the board's list had this one's pins, and so has theirs."""
        self._was_read = True
        known = bool(pins) and pins <= self.pins
        self.pins |= pins
        if self._at_section and known and self._board.pins is not None and len(self.pins) >= self._board.pins:
            self._sections = deque()

    async def _look_up(self, ask: Ask, *, by_page: bool) -> None:
        try:
            await self._board.look_up(ask)
        except Refused as refusal:
            self._refused = refusal
            if not by_page:
                raise

    @property
    def _may_lack_sections(self) -> bool:
        count, most = self._board.section_count, self._board.pins
        return bool(count) or most is None or len(self.pins) < most


class SectionPlan:
    """One section of a board."""

    missing: str | None = NO_SECTION

    def __init__(self, username: str, slug: str, section: str) -> None:
        self._board = Board(username, slug)
        self._section = section
        self._begun = False

    async def next(self, ask: Ask, *, by_page: bool) -> Step | None:
        """The section, looked up by its name."""
        if self._begun:
            return None
        section_id = "" if by_page else await self._look_up(ask)
        self._begun = True
        return listing.of_section(self._board.username, self._board.slug, self._section, section_id)

    def read(self, pins: set[str]) -> None:
        """Nothing follows."""

    async def _look_up(self, ask: Ask) -> str:
        await self._board.look_up(ask)
        for section in await self._board.sections(ask):
            if section.slug.casefold() == self._section.casefold():
                return section.id
        raise Refused(Reason.UPSTREAM_CHANGED, NO_SECTION, status=404)
