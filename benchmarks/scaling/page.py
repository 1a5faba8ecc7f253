"""The tables of docs/scaling.md and docs/capacity.md, made of what is kept, between marks that name what is in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.results import Figure, Results
from benchmarks.scaling.curve import curve, is_kept

DOCS = Path(__file__).parents[2] / "docs"
MARKED = re.compile(r"(<!-- (?:curve|plan): (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
SERVICES = ("crawler", "transformer", "dedup", "gateway", "followers", "feeder", "nats", "site", "load")


def rows(found: Results) -> str:
    """Of each point: medians with their spread and ratio to the first point, and who used the processors."""
    columns = list(dict.fromkeys((one.name, one.unit) for one in found.figures))
    cells = {(one.of, one.name): one for one in found.figures}
    services = [one for one in SERVICES if any(_cores(point, one) >= 0.01 for point in found.detail["points"])]
    head = [
        found.detail["grows"],
        *(f"{name}, {unit}" for name, unit in columns),
        "cores: " + ", ".join(services),
        "busy",
    ]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * len(head))} |"]
    for point in found.detail["points"]:
        said = [_cell(cells[point["label"], name]) if (point["label"], name) in cells else "" for name, _ in columns]
        cores = ", ".join(f"{_cores(point, one):.2f}" for one in services)
        lines.append(f"| {point['x']:,} | {' | '.join(said)} | {cores} | {_cores(point, 'others'):.2f} |")
    loads = [load for one in found.figures for load in one.loads]
    where = f"{found.at[:16].replace('T', ' ')} UTC, load before the runs {min(loads):g} to {max(loads):g}."
    return "\n".join([*lines, "", where, ""])


def made(text: str, makers: Mapping[str, Callable[[], str]]) -> str:
    """`text` with what stands between the marks made anew, where somebody makes it."""

    def anew(match: re.Match[str]) -> str:
        maker = makers.get(match[2])
        return f"{match[1]}\n{maker()}\n{match[4]}" if maker is not None else match[0]

    return MARKED.sub(anew, text)


def of_curves(names: list[str]) -> dict[str, Callable[[], str]]:
    """Who makes the tables of curves."""
    return {name: lambda name=name: rows(curve(name)) for name in names if is_kept(name)}  # type: ignore[misc]


def _cores(point: dict[str, dict[str, float]], service: str) -> float:
    return point["evidence"].get(f"cores {service}", 0.0)


def _cell(one: Figure) -> str:
    if one.median is None:
        return one.words
    spread = "" if one.least == one.most else f" ({_short(one.least)} to {_short(one.most)})"
    return f"{_short(one.median)}{spread}" + ("" if one.ratio is None else f", x{one.ratio:.2f}")


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
