"""The runs of a benchmark: what was asked, what there was to be found, and what was."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from statistics import median

import msgspec
import typer

from benchmarks.peers.contenders import Task
from benchmarks.peers.finding import Finding
from benchmarks.peers.verify import verified
from benchmarks.seeds import seed
from tests.fake_pinterest import RunningSite, expected_results
from tests.fake_pinterest.expected import Expected, expected_of
from tests.fake_pinterest.feeds import board_feed

STANDING, WARM, POLITE = "standing", "warm", "polite"


class Corpus(msgspec.Struct, frozen=True):
    """What is asked for in one run, and the signatures of all videos that the site's CDN has of it."""

    task: Task
    there: frozenset[str]

    def at(self, sleep_s: float) -> Corpus:
        """The same, with so much sleep between requests."""
        return msgspec.structs.replace(self, task=msgspec.structs.replace(self.task, pace_s=sleep_s))

    def first(self) -> Corpus:
        """The same, until the first video."""
        return msgspec.structs.replace(self, task=msgspec.structs.replace(self.task, first_only=True))


def search_corpus(number: int, pins: int, corpus: str = "") -> Corpus:
    """`scope:videos` has the site answer those with videos that can only ask for pins."""
    query = f"ceramic glaze scope:videos pins:{pins} seed:{seed(corpus, f'peers-{number}')}"
    return Corpus(Task(query=query), _there(expected_results(query)))


def board_corpus(number: int, pins: int, end: str, corpus: str = "") -> Corpus:
    """`end`: `none` as yt-dlp, or `dash` as pinterest-dl alone knows the end of a list: as many pins, and others."""
    slug = f"glazes--pins-{pins}--seed-{seed(corpus, f'peers{number}')}--end-{end}"
    feed = board_feed("mia", slug)
    assert feed is not None
    return Corpus(Task(url=f"https://www.pinterest.com/mia/{slug}/"), _there(expected_of(feed)))


def _there(expected: Expected) -> frozenset[str]:
    return frozenset(video.id for video in expected.videos if video.path)


class Run(msgspec.Struct, frozen=True):
    """One: `videos`, and those with `files` of any codec or of `h264`, in per cent of those there."""

    finding: Finding
    videos: float
    files: float
    h264: float


Value = Callable[[Run], float | None]


class Tally:
    """All runs, by contender and phase: `standing`, `warm`, `polite`."""

    def __init__(self, site: RunningSite) -> None:
        self.site = site
        self.runs: dict[tuple[str, str], list[Run]] = defaultdict(list)

    async def add(self, name: str, phase: str, corpus: Corpus, running: Awaitable[Finding]) -> None:
        """Counts a run when it has ended; its files are looked at after it."""
        finding = await running
        asked = {} if corpus.task.first_only else finding.videos
        shares = (set(finding.videos), *await verified(self.site, asked))
        videos, files, h264 = (100 * len(found & corpus.there) / len(corpus.there) for found in shares)
        self.runs[name, phase].append(Run(finding, videos, files, h264))
        first = "never" if finding.first_s is None else f"{finding.first_s:.2f} s"
        typer.echo(
            f"{name}, {phase}: {videos:.0f} %, MP4 {files:.0f} %, H.264 {h264:.0f} %, "
            f"first {first}, all {finding.total_s:.1f} s, {finding.site_requests} + {finding.cdn_requests} requests, "
            f"{finding.memory_mb:.0f} MB, "
            f"load {finding.load:.1f} {finding.ended} {finding.said[-200:] if finding.ended else ''}",
            err=True,
        )

    def of(self, name: str, phase: str, value: Value) -> list[float]:
        """A number of each run that has it."""
        return [found for run in self.runs.get((name, phase), []) if (found := value(run)) is not None]

    def loads(self, name: str, phase: str) -> list[float]:
        """The machine's, before each run."""
        return [run.finding.load for run in self.runs[name, phase]]

    def middles(self, phases: tuple[str, ...], value: Value, without: tuple[str, ...]) -> dict[str, float]:
        """The median of each contender that has runs in one of the phases, the best of them where in more."""
        names = dict.fromkeys(name for name, phase in self.runs if phase in phases and name not in without)
        found = {name: [runs for phase in phases if (runs := self.of(name, phase, value))] for name in names}
        return {name: max(map(median, each)) for name, each in found.items() if each}

    def detail(self) -> list[dict[str, object]]:
        """Each run in short, to be kept beside the figures."""
        return [
            {
                "contender": name,
                "phase": phase,
                "ended": run.finding.ended,
                "said": run.finding.said[-300:] if run.finding.ended else "",
                "first_s": run.finding.first_s,
                "total_s": round(run.finding.total_s, 3),
                "videos_percent": round(run.videos, 2),
                "files_percent": round(run.files, 2),
                "h264_percent": round(run.h264, 2),
                "load": round(run.finding.load, 2),
            }
            for (name, phase), runs in self.runs.items()
            for run in runs
        ]
