"""What 10,000 and 1,000,000 sessions an hour need: pods of each service, servers of the broker, dollars.

`python -m benchmarks.simulate_capacity` reads the measured costs (`results/scaling-*.json`), sizes a plan by shares,
then has sessions arrive at it by chance (SimPy) and adds pods where a video waits for too long. `--check` simulates the
machine that was measured, at points that are no inputs, and says by how much it errs. `--save` keeps both and makes the
tables of docs/capacity.md. Prices are those of `prices.json`, with date and source; another file, or `--node-hour`,
goes before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import msgspec
import typer

from benchmarks.results import Figure, Results, figure, kept, results, save
from benchmarks.scaling.costs import CALIBRATED_AT, FEW, Costs, costs
from benchmarks.scaling.curve import curve, evidence, line
from benchmarks.scaling.flow import Flow, flow
from benchmarks.scaling.model import Load, predict
from benchmarks.scaling.page import DOCS, made
from benchmarks.scaling.plan import Asked, Plan, plan

PRICES = Path(__file__).with_name("prices.json")
PAGE = DOCS / "capacity.md"
COMMAND = "python -m benchmarks.simulate_capacity --save"
KEPT, CHECKED = "capacity-plan", "capacity-check"
MANY_PACE = 400.0  # requests a second, to which a site would have to agree
P99_MS = 1_000.0  # from a video's emission to its frame
QUESTIONS = {
    "10,000 an hour": Asked(sessions_an_hour=10_000),
    "1,000,000 an hour, kept an hour": Asked(sessions_an_hour=1_000_000, kept_h=1.0, pace=MANY_PACE),
    "1,000,000 an hour, kept a day": Asked(sessions_an_hour=1_000_000, pace=MANY_PACE),
}


class Answer(msgspec.Struct, frozen=True):
    """A plan, and what was seen of it."""

    plan: Plan
    flow: Flow


def answer(measured: Costs, asked: Asked, prices: dict[str, Any]) -> Answer:
    """The cheapest plan whose videos arrive in time; raises ValueError where there is none."""
    found = plan(measured, asked, prices)
    while (seen := flow(measured, found)).p99_ms > P99_MS:
        busiest = max((name for name in found.pods), key=lambda name: found.busy[name])
        pods = {**found.pods, busiest: found.pods[busiest] + 1}
        busy = {**found.busy, busiest: found.busy[busiest] * found.pods[busiest] / pods[busiest]}
        found = msgspec.structs.replace(found, pods=pods, busy=busy, limits=[*found.limits, f"{busiest}: waiting"])
    return Answer(found, seen)


def loads() -> list[tuple[str, str, int, Load]]:
    """What is simulated to see whether it is right: curve, figure, point, load. None of these is an input."""
    found = []
    for name, what, common in (
        ("whole", "throughput", Load(searches=0, items=0, known=True)),
        ("transformer-slow-cdn", "throughput", Load(searches=10, items=60, cdn_ms=80, transformer_only=True)),
        ("sessions", "throughput", Load(searches=0, items=0, browser=True)),
        ("sessions", "first video, p50", Load(searches=0, items=0, browser=True)),
    ):
        kept_curve = curve(name)
        for x in line(kept_curve, what).at:
            if (name == "sessions" and x in (1, FEW, CALIBRATED_AT)) or (name == "whole" and x <= 2):
                continue  # an input, or a search that finds a warm context
            seen = evidence(kept_curve, x)
            load = msgspec.structs.replace(common, others=seen.get("cores others", 0.0))
            if name != "transformer-slow-cdn":
                searches = int(x if name == "sessions" else kept_curve.detail["settings"]["searches"])
                share = seen["videos"] / seen["items"]
                items = round(seen["items"] / searches)
                load = msgspec.structs.replace(load, searches=searches, items=items, videos=share)
            found.append((name, what, x, load if name == "sessions" else msgspec.structs.replace(load, replicas=x)))
    return found


def check(measured: Costs) -> list[Figure]:
    """Measured and predicted, of each load; the ratio is predicted over measured."""
    found = []
    for name, what, x, load in loads():
        place = line(curve(name), what)
        at = place.at.index(x)
        predicted = predict(measured, load)
        value = predicted.throughput if what == "throughput" else 1000 * predicted.first_s
        label = f"{name} at {x}"
        one = figure(f"{label}, measured", what, place.unit, [place.median[at]])
        found += [one, figure(f"{label}, predicted", what, place.unit, [value], against=one)]
    return found


def processors(measured: Costs) -> dict[str, dict[str, tuple[float, float]]]:
    """Milliseconds of processor an item, by load and service: measured, and in the simulation."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for name, what, x, load in loads():
        if what == "throughput":
            seen, simulated = evidence(curve(name), x), predict(measured, load).processor_ms
            found[f"{name} at {x}"] = {
                service: (seen[f"cpu ms {service}"], round(spent, 4))
                for service, spent in simulated.items()
                if spent and f"cpu ms {service}" in seen
            }
    return found


def errors(checked: list[Figure]) -> dict[str, float]:
    """By how much each prediction is off, as a share of what was measured."""
    return {f"{one.of}, {one.name}": abs(one.ratio - 1) for one in checked if one.ratio is not None}


def report(prices: dict[str, Any]) -> tuple[Results, Results]:
    """The plans, and the check of what they rest on."""
    measured = costs()
    answers = {name: answer(measured, asked, prices) for name, asked in QUESTIONS.items()}
    checked = check(measured)
    off = errors(checked)
    detail = {"costs": measured, "prices": prices, "answers": answers}
    said = {"median": round(median(off.values()), 3), "most": round(max(off.values()), 3)}
    return (
        results(KEPT, COMMAND, planned(answers), packages=["simpy"], detail=msgspec.to_builtins(detail)),
        results(
            CHECKED, COMMAND, checked, packages=["simpy"], detail={"error": said, "processor": processors(measured)}
        ),
    )


def planned(answers: dict[str, Answer]) -> list[Figure]:
    """The answers in short."""
    found = []
    for name, one in answers.items():
        pods = {f"{service} pods": count * one.plan.cells for service, count in one.plan.pods.items()}
        said = {"cells": one.plan.cells, **pods, "NATS servers": one.plan.servers}
        found += [figure(name, what, "", [count]) for what, count in said.items()]
        found.append(figure(name, "dollars an hour", "", [one.plan.total]))
    return found


def makers() -> dict[str, Callable[[], str]]:
    """Who makes the tables of docs/capacity.md, of what is kept."""
    found, checked = kept(KEPT), kept(CHECKED)
    return {
        "answers": lambda: answers_table(found.detail["answers"]),
        "dollars": lambda: dollars_table(found.detail["answers"]),
        "check": lambda: check_table(checked),
        "processor": lambda: processor_table(checked.detail["processor"]),
        "costs": lambda: costs_table(found.detail["costs"]),
        "prices": lambda: prices_table(found.detail["prices"]),
    }


def answers_table(answers: dict[str, Any]) -> str:
    """A column a question."""
    plans = {name: one["plan"] for name, one in answers.items()}
    flows = {name: one["flow"] for name, one in answers.items()}
    services = ("gateway", "crawler", "transformer", "dedup")
    rows = [
        ("requests a second to the site", [f"{one['site_requests_per_s']:,.1f}" for one in plans.values()]),
        ("cells", [f"{one['cells']}" for one in plans.values()]),
        *(
            (
                f"{name} pods, of all cells (busy)",
                [f"{one['pods'][name] * one['cells']:,} ({one['busy'][name]:.0%})" for one in plans.values()],
            )
            for name in services
        ),
        (
            "servers of NATS, vCPU each (busy)",
            [f"{one['servers']}, {one['server_vcpu']} ({one['busy']['nats']:.0%})" for one in plans.values()],
        ),
        ("nodes of 2 vCPU for the pods", [f"{one['nodes']:,}" for one in plans.values()]),
        ("session logs of a cell, GB, three times", [f"{one['results_gb']:,.1f}" for one in plans.values()]),
        (
            "emission to frame, p50 and p99, ms",
            [f"{one['p50_ms']:,.0f}, {one['p99_ms']:,.0f}" for one in flows.values()],
        ),
        ("requests a second that the site bears", [f"{one['asked']['pace']:,.0f}" for one in plans.values()]),
        ("wait for a turn at the site, mean, ms", [f"{one['turn_ms']:,.0f}" for one in flows.values()]),
        (
            "request to first frame, p50 and p99, ms",
            [f"{one['first_p50_ms']:,.0f}, {one['first_p99_ms']:,.0f}" for one in flows.values()],
        ),
        ("what decides", ["; ".join(dict.fromkeys(one["limits"])) or "the least of each" for one in plans.values()]),
    ]
    return _table(list(plans), rows)


def dollars_table(answers: dict[str, Any]) -> str:
    """A column a question, by the hour, and for a thousand sessions."""
    plans = {name: one["plan"] for name, one in answers.items()}
    kinds = list(next(iter(plans.values()))["dollars_an_hour"])
    rows = [(name, [f"{one['dollars_an_hour'][name]:,.2f}" for one in plans.values()]) for name in kinds]
    totals = {name: sum(one["dollars_an_hour"].values()) for name, one in plans.items()}
    rows.append(("in all, an hour", [f"{total:,.2f}" for total in totals.values()]))
    rows.append(("a month", [f"{total * 730:,.0f}" for total in totals.values()]))
    per = [1000 * totals[name] / one["asked"]["sessions_an_hour"] for name, one in plans.items()]
    rows.append(("a thousand sessions", [f"{one:,.3f}" for one in per]))
    return _table(list(plans), rows)


def check_table(checked: Results) -> str:
    """Measured, predicted, and by how much that is off."""
    figures = {(one.of, one.name): one for one in checked.figures}
    rows = []
    for (_, what), predicted in figures.items():
        if predicted.ratio is None:
            continue
        measured = figures[predicted.against, what]
        label = f"{predicted.of.removesuffix(', predicted')}, {what}, {measured.unit}"
        rows.append((label, [f"{measured.median:,g}", f"{predicted.median:,g}", f"{predicted.ratio - 1:+.0%}"]))
    error = checked.detail["error"]
    text = _table(["measured", "predicted", "off by"], rows)
    return f"{text}\nOff by {error['median']:.0%} in the median, {error['most']:.0%} at most.\n"


def processor_table(found: dict[str, dict[str, tuple[float, float]]]) -> str:
    """A row a load, a column a service: measured, simulated, and how much of what was measured that is."""
    services = list(dict.fromkeys(service for one in found.values() for service in one))
    rows = []
    for name, one in found.items():
        sums = {**one, "all": (sum(was for was, _ in one.values()), sum(now for _, now in one.values()))}
        cells = [sums.get(service) for service in (*services, "all")]
        rows.append((name, ["" if cell is None else f"{cell[0]:.2f}, x{cell[1] / cell[0]:.2f}" for cell in cells]))
    return _table([*services, "all"], rows)


def costs_table(found: dict[str, float]) -> str:
    """Each by its name in `costs.py`."""
    return _table(["measured"], [(f"`{name}`", [f"{value:,.4g}"]) for name, value in found.items()])


def prices_table(prices: dict[str, Any]) -> str:
    """With date and source."""
    rows = [
        (one["what"], [f"{one['dollars']:g}", one["at"], one["from"]])
        for one in prices.values()
        if isinstance(one, dict)
    ]
    return f"{prices['source']}:\n\n{_table(['dollars', 'as of', 'from'], rows)}"


def _table(columns: list[str], rows: list[tuple[str, list[str]]]) -> str:
    lines = [f"| | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows), ""])


def main(
    sessions_an_hour: Annotated[float | None, typer.Option(help="instead of the two questions")] = None,
    videos: Annotated[float, typer.Option(help="of each session")] = 20.0,
    pace: Annotated[float, typer.Option(help="requests a second that the site bears, of all cells together")] = 3.0,
    kept_h: Annotated[float, typer.Option(help="how long session logs are kept (RESULTS_MAX_AGE_S)")] = 24.0,
    prices: Annotated[Path, typer.Option(help="a file like prices.json")] = PRICES,
    node_hour: Annotated[float | None, typer.Option(help="dollars an hour for a node of 2 vCPU and 8 GiB")] = None,
    check_only: Annotated[
        bool, typer.Option("--check", "--quick", help="only see by how much the simulation errs")
    ] = False,
    keep: Annotated[bool, typer.Option("--save", help="keep both, and make the tables of docs/capacity.md")] = False,
) -> None:
    """Simulate and say."""
    given = msgspec.json.decode(prices.read_bytes())
    if node_hour is not None:
        given["node_hour"] |= {"dollars": node_hour, "at": "now", "from": "--node-hour"}
    if sessions_an_hour is not None:
        asked = Asked(sessions_an_hour=sessions_an_hour, videos=videos, kept_h=kept_h, pace=pace)
        one = msgspec.to_builtins({f"{sessions_an_hour:,.0f} an hour": answer(costs(), asked, given)})
        sys.stdout.write(answers_table(one) + "\n" + dollars_table(one))
        return
    found, checked = report(given)
    sys.stdout.write(check_table(checked))
    if not check_only:
        sys.stdout.write("\n" + answers_table(found.detail["answers"]) + "\n" + dollars_table(found.detail["answers"]))
    if keep and not check_only:
        save(found)
        save(checked)
        PAGE.write_text(made(PAGE.read_text(), makers()))


if __name__ == "__main__":
    typer.run(main)
