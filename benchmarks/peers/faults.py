"""What each fault of docs/crawling.md does to each contender: once, and for ever, at a search's middle page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Set
from contextlib import AsyncExitStack, suppress
from itertools import product

import msgspec

from benchmarks.peers import ours
from benchmarks.peers.contenders import Driver, Task, by_command, gallery_dl, pinterest_dl, yt_dlp
from benchmarks.peers.finding import Finding
from libs.client.errors import StackFailed
from libs.client.local import LocalStack
from tests.fake_pinterest import RunningSite, running_site
from tests.fake_pinterest.catalogue import Pin
from tests.fake_pinterest.expected import expected_of
from tests.fake_pinterest.feeds import Feed, board_feed, search_feed
from tests.integration.site_faults import PROMISES

FOLDERS = re.compile(r'(?<=File ")/[^"\n]*/')  # of a traceback: nobody else has them
PINS, PAGE = 100, 25
PATIENCE_S = 150.0
MOST_MB, BROWSERS_MOST_MB = 400.0, 2500.0
TIMES = ("1", "always")
MEANINGS = {promise.fault: promise.meaning for promise in PROMISES}
UNDISTURBED = ""
FASTER = {"REQUESTS_PER_SECOND": "50", "SITE_REQUESTS_PER_SECOND": "50"}


class Cell(msgspec.Struct, frozen=True):
    """A fault (or none) of a search, or of a board whose end is said as yt-dlp knows it."""

    fault: str
    times: str = "1"

    @property
    def options(self) -> dict[str, str]:
        """Of the stand-in: a corpus of whole pages without quirks of its own."""
        struck = {"fault": self.fault, "at": "middle", "times": self.times} if self.fault else {}
        return {"pins": str(PINS), "size": str(PAGE), "seed": SEED, **struck}

    @property
    def query(self) -> str:
        """The search."""
        return _query(self.options | {"end": "dash"})

    @property
    def slug(self) -> str:
        """The board."""
        return "--".join(["glazes", *(f"{key}-{value}" for key, value in {**self.options, "end": "none"}.items())])

    def feed(self, board: bool) -> Feed:
        """What there is."""
        found = board_feed("mia", self.slug) if board else search_feed(self.query)
        assert found is not None
        return found


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a cell: how many of the videos that it finds undisturbed, after how long."""

    contender: str
    fault: str
    times: str
    verdict: str
    found: int
    of: int
    seconds: float
    said: str


def _query(options: dict[str, str]) -> str:
    return " ".join(["ceramic glaze scope:videos", *(f"{key}:{value}" for key, value in options.items())])


SEED = next(
    seed
    for seed in map(str, range(99))
    if search_feed(_query({"pins": str(PINS), "seed": seed})).tag % 2  # no modules, no gap
)


def verdict(found: Finding, undisturbed: Finding, usual: Set[str]) -> str:
    """In a word or two. `usual` is what the contender finds where nothing goes wrong; what it says then, and how it
    ends, is no sign of a fault."""
    if found.ended in ("patience", "memory"):
        return "hang" if found.ended == "patience" else "memory"
    if usual <= found.videos.keys() and found.ended == undisturbed.ended:
        return "complete"
    news = _lines(found.said) - _lines(undisturbed.said)
    if found.ended and (news or found.ended != undisturbed.ended):
        blind = found.ended == "Traceback" or found.ended.startswith(("builtins.", "json."))
        return "traceback" if blind or "JSONDecode" in found.ended else "error"
    return "short, told" if news else "short"


def _lines(said: str) -> set[str]:
    """What was said, without the names of pins and videos, which differ from one board to the next."""
    return {NAMES.sub("", line).strip() for line in said.splitlines()}


def usual_of_a_board(feed: Feed) -> frozenset[str]:
    """What yt-dlp finds of a board: of each pin its own video, or the first of its story. Each board has other pins."""
    firsts = (pin.video or _first_of_story(pin) for pin in feed.catalogue())
    return frozenset(video for video in firsts if video)


def _first_of_story(pin: Pin) -> str | None:
    blocks = (block.signature for page in pin.story for block in page.blocks)
    return next((signature for signature in blocks if signature), None)


Run = Callable[[RunningSite, "asyncio.Queue[Cell]", dict[Cell, Finding]], Awaitable[None]]


def _commanded(command: Callable[[Task], list[str]], board: bool = False) -> Run:
    async def work(site: RunningSite, cells: asyncio.Queue[Cell], found: dict[Cell, Finding]) -> None:
        while not cells.empty():
            cell = cells.get_nowait()
            found[cell] = await by_command(command, site, _task(cell, board))

    return work


def _driven(name: str, most_mb: float = MOST_MB) -> Run:
    async def work(site: RunningSite, cells: asyncio.Queue[Cell], found: dict[Cell, Finding]) -> None:
        while not cells.empty():
            async with Driver(name, site) as driver:  # a new one after each that had to be ended
                while not cells.empty():
                    cell = cells.get_nowait()
                    found[cell] = await driver.run(_task(cell, most_mb=most_mb))
                    if found[cell].ended in ("patience", "memory", "died"):
                        break

    return work


def _task(cell: Cell, board: bool = False, most_mb: float = MOST_MB) -> Task:
    if board:
        url = f"https://www.pinterest.com/mia/{cell.slug}/"
        return Task(url=url, patience_s=PATIENCE_S, most_mb=most_mb)
    return Task(query=cell.query, patience_s=PATIENCE_S, most_mb=most_mb)


CONTENDERS: dict[str, tuple[Run, int]] = {  # with how many at once
    "gallery-dl": (_commanded(gallery_dl), 6),
    "pinterest-dl": (_commanded(pinterest_dl), 3),
    "pinterest-dl, iter_search": (_driven("pinterest-dl"), 3),
    "py3-pinterest": (_driven("py3-pinterest"), 3),
    "yt-dlp, a board": (_commanded(yt_dlp, board=True), 3),
    "Playwright script": (_driven("playwright", BROWSERS_MOST_MB), 3),
}
OURS = "pinstream"
SYSTEMS, STARTS = 3, 3
NAMES = re.compile(r"\S*\d\S*")


async def matrix(
    names: Iterable[str], faults: Iterable[str], say: Callable[[str], None]
) -> AsyncIterator[list[Verdict]]:
    """The cells of those contenders, as each is through; each has a stand-in of its own, which counts by search."""
    cells = [Cell(UNDISTURBED), *(Cell(fault, times) for fault, times in product(faults, TIMES))]
    small = [name for name in names if name not in ("Playwright script", OURS)]
    big = [name for name in names if name not in small]  # a browser each: one after the other
    for found in asyncio.as_completed([_of(name, cells, say) for name in small]):
        yield await found
    for name in big:
        yield await _of(name, cells, say)


async def _of(name: str, cells: list[Cell], say: Callable[[str], None]) -> list[Verdict]:
    queue: asyncio.Queue[Cell] = asyncio.Queue()
    for cell in cells:
        queue.put_nowait(cell)
    found: dict[Cell, Finding] = {}
    with running_site(tls=True) as site:
        if name == OURS:
            await _of_ours(site, queue, found, say)
        else:
            work, at_once = CONTENDERS[name]
            await asyncio.gather(*(work(site, queue, found) for _ in range(at_once)))
    board = name.endswith("board")
    there = {video.id for video in expected_of(Cell(UNDISTURBED).feed(board)).videos if video.path}
    undisturbed = found.pop(Cell(UNDISTURBED))
    say(f"{name}: undisturbed {len(undisturbed.videos)} of {len(there)}, ended {undisturbed.ended!r}")
    if board and undisturbed.videos.keys() != (foreseen := usual_of_a_board(Cell(UNDISTURBED).feed(board))):
        raise ValueError(f"{name} finds {len(undisturbed.videos)} videos, and not the {len(foreseen)} foreseen")
    usual = {cell: usual_of_a_board(cell.feed(board)) if board else frozenset(undisturbed.videos) for cell in found}
    verdicts = [
        Verdict(
            contender=name,
            fault=cell.fault,
            times=cell.times,
            verdict=_judged(name, one, undisturbed, usual[cell]),
            found=len(one.videos.keys() & usual[cell]),
            of=len(usual[cell]),
            seconds=round(one.total_s, 1),
            said=f"{one.ended} {FOLDERS.sub('', one.said)[-300:]}".strip(),
        )
        for cell, one in found.items()
    ]
    for each in verdicts:
        say(f"{name}: {each.fault} {each.times}: {each.verdict}, {each.found} of {each.of}, {each.seconds} s")
    return verdicts


def _judged(name: str, found: Finding, undisturbed: Finding, usual: Set[str]) -> str:
    """Ours says why by a reason of its protocol."""
    if name == OURS and found.ended not in ("", "patience"):
        return f"told: {found.ended}"
    return verdict(found, undisturbed, usual)


async def _of_ours(
    site: RunningSite, cells: asyncio.Queue[Cell], found: dict[Cell, Finding], say: Callable[[str], None]
) -> None:
    """A new system after each cell in which the site refused: all searches share what is known of its refusals."""

    async def work() -> None:
        while not cells.empty():
            async with AsyncExitStack() as running:
                stack = await _started(running, site)
                while not cells.empty():
                    cell = cells.get_nowait()
                    found[cell] = one = await ours.search(stack, site, _task(cell))
                    say(f"{OURS}: {cell.fault} {cell.times}: {one.ended or 'whole'} after {one.total_s:.0f} s")
                    if found[cell].ended:
                        break

    await asyncio.gather(*(work() for _ in range(SYSTEMS)))


async def _started(running: AsyncExitStack, site: RunningSite) -> LocalStack:
    """A system; on a machine that others use too, someone may take a port between its choice and its use."""
    for _ in range(STARTS - 1):
        with suppress(StackFailed):
            return await running.enter_async_context(LocalStack(ours.options(site, FASTER)))
    return await running.enter_async_context(LocalStack(ours.options(site, FASTER)))
