"""From runs to the tables of README.md."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec

from benchmarks.peers.faults import MEANINGS, OURS, TIMES, Verdict
from benchmarks.peers.tally import POLITE, STANDING, WARM, Run, Tally, Value
from benchmarks.results import Figure, figure, said

NOT_SO = "-"
LEAST_MP4_RATIO, MOST_FIRST_S = 5.0, 0.3  # what is asked of us


class Column(msgspec.Struct, frozen=True):
    """What is told of each contender, of the first of the phases in which it ran."""

    name: str
    unit: str
    phases: tuple[str, ...]
    value: Value


def first_s(run: Run) -> float | None:
    """Seconds to the first video."""
    return run.finding.first_s


def half_s(run: Run) -> float | None:
    """Seconds to half of what it found."""
    came = run.finding.came_s
    return came[(len(came) - 1) // 2] if came else None


def all_s(run: Run) -> float:
    """Seconds to the end."""
    return run.finding.total_s


def videos(run: Run) -> float:
    """Per cent of those there."""
    return run.videos


def files(run: Run) -> float:
    """Per cent of those there that have a file that plays."""
    return run.files


def h264(run: Run) -> float:
    """Per cent of those there that have one of H.264."""
    return run.h264


def _site(run: Run) -> float:
    return run.finding.site_requests


def _pace(run: Run) -> float:
    return run.finding.site_requests / run.finding.total_s


def _whole(*phases: str) -> tuple[Column, ...]:
    return (
        Column("unique videos", "% of those there", phases, videos),
        Column("with an MP4 that plays", "%", phases, files),
        Column("of H.264", "%", phases, h264),
        Column("first, standing start", "s", (STANDING,), first_s),
        Column("first, warm", "s", (WARM,), first_s),
        Column("half of its videos", "s", phases, half_s),
        Column("all", "s", phases, all_s),
        Column("requests, site", "", phases, _site),
        Column("requests, CDN", "", phases, lambda run: run.finding.cdn_requests),
        Column("memory", "MB", phases, lambda run: run.finding.memory_mb),
    )


AS_THEY_COME = _whole(WARM, STANDING)
AT_ONE_PACE = (
    Column("requests a second, site", "", (POLITE,), _pace),
    Column("unique videos", "% of those there", (POLITE,), videos),
    Column("with an MP4 that plays", "%", (POLITE,), files),
    Column("of H.264", "%", (POLITE,), h264),
    Column("first", "s", (POLITE,), first_s),
    Column("half of its videos", "s", (POLITE,), half_s),
    Column("all", "s", (POLITE,), all_s),
)


def figures_of(tally: Tally, names: Sequence[str], columns: Sequence[Column]) -> list[Figure]:
    """A row for each of `names`; the ratios are to the first."""
    found: list[Figure] = []
    for column in columns:
        against: Figure | None = None
        for name in names:
            phase = next((phase for phase in column.phases if tally.of(name, phase, column.value)), None)
            if phase is None:
                found.append(Figure(of=name, name=column.name, unit=column.unit, words=NOT_SO))
                continue
            runs = tally.of(name, phase, column.value)
            loads = tally.loads(name, phase)
            made = figure(name, column.name, column.unit, runs, loads=loads, against=against)
            found.append(made)
            if name == names[0]:
                against = made
    return found


def aims(tally: Tally, ours: str, with_hevc: str, even: str, others_of_ours: tuple[str, ...]) -> list[Figure]:
    """What was asked of us, what was measured, and whether it holds.

    Peers give HEVC unasked, and so does `with_hevc`; `even` asks the site at the peers' pace.
    """
    without = (ours, with_hevc, even, *others_of_ours)
    our_videos, our_first = (median(tally.of(ours, WARM, value)) for value in (videos, first_s))
    our_all, our_pace, our_requests = (median(tally.of(even, POLITE, value)) for value in (all_s, _pace, _site))
    paces = tally.middles((POLITE,), _pace, without)
    peers_first = tally.middles((WARM,), first_s, without)
    peers_all = tally.middles((POLITE,), all_s, without)
    soonest = min(peers_first, key=lambda name: peers_first[name])
    head = our_first / peers_first[soonest]
    told = [("unique videos, of those there", "100 %", f"{our_videos:.1f} %", our_videos >= 100)]
    for what, value, name in (
        ("MP4s of H.264", h264, ours),
        ("MP4s of any codec", files, ours),
        ("MP4s of any codec, with `ALLOW_HEVC`", files, with_hevc),
    ):
        peers = tally.middles((STANDING, WARM), value, without)
        most = max(peers, key=lambda peer: peers[peer])
        ratio = median(tally.of(name, WARM, value)) / peers[most]
        told.append((f"{what}, of those of the best peer, {most}", "5", f"{ratio:.2f}", ratio >= LEAST_MP4_RATIO))
    told += [
        ("first video, warm", "under 0.3 s", f"{our_first:.3f} s", our_first < MOST_FIRST_S),
        (f"first video, warm, of that of the best peer, {soonest}", "at most 1", f"{head:.2f}", head <= 1),
    ]
    for name, took in sorted(peers_all.items(), key=lambda each: each[1]):
        pace = f"{our_pace:.2f} requests a second, of that of {name} at {paces[name]:.2f}"
        told.append((f"all, ours at {pace}", "under 1", f"{our_all / took:.2f}", our_all < took))
        if our_pace > paces[name]:  # then also as long as its requests take at the peer's pace
            least = our_requests / paces[name]
            told.append((f"all, at the pace of {name}, computed", "under 1", f"{least / took:.2f}", least < took))
    return [
        cell
        for of, asked, found, held in told
        for cell in (
            said(of, "asked for", asked),
            said(of, "measured", found),
            said(of, "holds", "yes" if held else "no"),
        )
    ]


def fault_figures(verdicts: Sequence[Verdict]) -> list[Figure]:
    """A row for each fault: `once / for ever`, ours first."""
    by_cell = {(one.fault, one.contender, one.times): one.verdict for one in verdicts}
    contenders = sorted({one.contender for one in verdicts}, key=lambda name: (name != OURS, name.lower()))
    faults = [fault for fault in MEANINGS if any(one.fault == fault for one in verdicts)]
    return [
        said(MEANINGS[fault], name, " / ".join(by_cell.get((fault, name, times), NOT_SO) for times in TIMES))
        for fault in faults
        for name in contenders
    ]


def fault_totals(verdicts: Sequence[Verdict]) -> list[Figure]:
    """How many faults end how, for each contender: once, and for ever."""
    kinds = ("complete", "told", "error", "short, told", "short", "traceback", "hang", "memory")
    contenders = sorted({one.contender for one in verdicts}, key=lambda name: (name != OURS, name.lower()))
    found: list[Figure] = []
    for name in contenders:
        for kind in kinds:
            counts = [
                sum(one.contender == name and one.times == times and _kind(one) == kind for one in verdicts)
                for times in TIMES
            ]
            found.append(said(name, kind, " / ".join(map(str, counts))))
    return found


def _kind(one: Verdict) -> str:
    return "told" if one.verdict.startswith("told") else one.verdict
