"""What the site says of a board and its sections."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

import structlog

from libs.common.messages import Reason
from services.crawler import listing, pinterest
from services.crawler.asking import Ask
from services.crawler.failure import CrawlFailed, Refused
from services.crawler.listing import Listing
from services.crawler.value import rows, table, text, whole

MOST_SECTION_PAGES = 40  # 2,000 sections
NO_BOARD = "There is no such board, or it is private."
_PRIVATE = ("secret", "private")

log = structlog.get_logger()


class Section(NamedTuple):
    """A section; `slug` is its part of the path, percent encodings undone."""

    id: str
    slug: str


class Board:
    """What the site says of a board; `pins` and `section_count` are None where it does not say."""

    def __init__(self, username: str, slug: str) -> None:
        self.username, self.slug = username, slug
        self.id = ""
        self.pins: int | None = None
        self.section_count: int | None = None

    @property
    def listing(self) -> Listing:
        """Its own pins."""
        return listing.of_board(self.username, self.slug, self.id)

    async def look_up(self, ask: Ask) -> None:
        """Raises Refused; CrawlFailed where the board is private."""
        said = table((await ask(listing.board(self.username, self.slug))).data)
        if said.get("privacy") in _PRIVATE:
            raise CrawlFailed(Reason.NOT_FOUND, NO_BOARD)
        self.id = _id(said.get("id"))
        if not self.id:
            message = "The site's answer about the board has no id that is known here; update this program."
            raise Refused(Reason.UPSTREAM_CHANGED, message)
        self.pins, self.section_count = whole(said.get("pin_count")), whole(said.get("section_count"))

    async def sections(self, ask: Ask) -> list[Section]:
        """All of them. Raises Refused."""
        found: dict[str, Section] = {}
        bookmark: str | None = None
        seen: set[str] = set()
        for _ in range(MOST_SECTION_PAGES):
            try:
                envelope = await ask(listing.sections(self.username, self.slug, self.id, bookmark))
            except Refused as refusal:
                if not refusal.missing:
                    raise
                if self.section_count:
                    raise Refused(Reason.UPSTREAM_CHANGED, refusal.message) from refusal
                break
            for entry in map(table, rows(envelope.data)):
                id_ = _id(entry.get("id"))
                if id_:
                    found.setdefault(
                        id_, Section(id_, unquote(text(entry.get("slug")) or text(entry.get("title")) or id_))
                    )
            bookmark = envelope.bookmark
            if bookmark is None or pinterest.is_end(bookmark) or bookmark in seen:
                break
            seen.add(bookmark)
        else:
            log.warning("not every section is read", sections=len(found))
        return list(found.values())


def _id(value: object) -> str:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(value) or ""
