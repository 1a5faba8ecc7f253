"""The curves as SVG: throughput and latency over what grows, each run's spread as bars, and what was ideal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from benchmarks.results import Results
from benchmarks.scaling.curve import Line, line

SIZE_IN = (7.2, 2.9)
COLOURS = ("#0b62a4", "#c2410c", "#15803d")
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small files that can be searched
    "svg.hashsalt": "pinstream",  # the same figures make the same file
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
LATENCIES = ("p50", "p99", "first video, p50")


def draw(found: Results, path: Path) -> None:
    """Throughput on the left, latencies on the right; a dashed line is growth in proportion to the replicas."""
    with mpl.rc_context(STYLE):
        drawing = Drawing(figsize=SIZE_IN, layout="constrained")
        left, right = drawing.subplots(1, 2)
        drawing.suptitle(found.detail["title"], fontsize=9)
        throughput = line(found, "throughput")
        _line(left, throughput, COLOURS[0])
        if found.detail["grows"] == "replicas":
            ideal = [throughput.median[0] * at / throughput.at[0] for at in throughput.at]
            left.plot(throughput.at, ideal, "--", color="#999999", linewidth=0.8, label="proportional")
        for name, colour in zip(_latencies(found), COLOURS, strict=False):
            _line(right, line(found, name), colour)
        for axes in (left, right):
            _axes(axes, found, throughput.at)
        left.set_ylim(bottom=0)
        right.set_yscale("log")
        path.parent.mkdir(parents=True, exist_ok=True)
        drawing.savefig(path, metadata={"Date": None})
        text = path.read_text()
        path.write_text("\n".join(row.rstrip() for row in text.splitlines()) + "\n")


def _latencies(found: Results) -> list[str]:
    known = {one.name for one in found.figures}
    return [name for name in LATENCIES if name in known]


def _line(axes: Axes, drawn: Line, colour: str) -> None:
    low = [middle - least for middle, least in zip(drawn.median, drawn.least, strict=True)]
    high = [most - middle for middle, most in zip(drawn.median, drawn.most, strict=True)]
    label = f"{drawn.name}, {drawn.unit}"
    axes.errorbar(
        drawn.at, drawn.median, yerr=[low, high], color=colour, marker="o", markersize=3, capsize=2, label=label
    )


def _axes(axes: Axes, found: Results, at: list[int]) -> None:
    if found.detail["log"]:
        axes.set_xscale("log")
    axes.set_xticks(at, [f"{x:,}" for x in at])
    axes.minorticks_off()
    axes.set_xlabel(found.detail["grows"])
    axes.grid(visible=True, color="#eeeeee", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=7)
