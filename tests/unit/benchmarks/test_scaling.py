"""The simulation of docs/capacity.md against theory and what was measured, and the pages against what is kept."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from benchmarks import simulate_capacity
from benchmarks.bench_scaling import CURVES, PAGE
from benchmarks.results import kept
from benchmarks.scaling.corpus import sliced
from benchmarks.scaling.costs import Costs, costs
from benchmarks.scaling.curve import Curve, Point, curve, line
from benchmarks.scaling.flow import flow
from benchmarks.scaling.model import PROBES, Load, predict
from benchmarks.scaling.page import made, of_curves
from benchmarks.scaling.plan import BUSY, Asked, plan
from benchmarks.scaling.plots import draw

MEDIAN_ERROR, MOST_ERROR = 0.15, 0.4  # of the simulation, at points that are no inputs of it

COSTS = Costs(
    crawl_context=600.0,
    crawl_session=100.0,
    crawl_item=2.0,
    emit=0.5,
    resolve=6.0,
    resolve_known=0.25,
    requests=3.0,
    requests_apart=3.0,
    settle=0.3,
    frame=0.2,
    hear=0.03,
    broker_item=0.2,
    broker_hear=0.005,
    gateway_session=5.0,
    broker_session=3.0,
    dedup_session=1.0,
    copies=2.5,
    claims_per_s=6_000.0,
    client=0.05,
    site=0.6,
    key_ram=1_000.0,
    key_disk=1_600.0,
    items_per_video=1.4,
)


@pytest.fixture
def prices() -> dict[str, Any]:
    """As they are kept."""
    found: dict[str, Any] = msgspec.json.decode(simulate_capacity.PRICES.read_bytes())
    return found


# the simulation against theory


def test_one_process_of_one_core_does_as_much_as_its_work_allows() -> None:
    slow = msgspec.structs.replace(COSTS, settle=5.0)
    found = predict(slow, Load(searches=4, items=100, known=True, cores=8))
    assert found.throughput == pytest.approx(1000 / 5.0, rel=0.02)


def test_all_share_the_cores_of_a_machine() -> None:
    load = Load(searches=8, items=50, known=True, cores=2, videos=1.0, replicas=4)
    costs = msgspec.structs.replace(COSTS, hear=0.3)
    all_ms = COSTS.emit + COSTS.broker_item + COSTS.resolve_known + COSTS.settle + COSTS.frame + COSTS.client
    all_ms += costs.hear * (3 + 4) + COSTS.broker_hear * 8
    sessions_ms = 8 * (COSTS.broker_session + COSTS.gateway_session + COSTS.dedup_session)
    found = predict(costs, load)
    assert 400 / found.throughput == pytest.approx((400 * all_ms + sessions_ms) / 2000, rel=0.1)


def test_where_a_cdn_is_slow_the_requests_under_way_bound_a_transformer() -> None:
    free = msgspec.structs.replace(COSTS, resolve=0.01, site=0.01)
    load = Load(searches=5, items=60, cdn_ms=100, transformer_only=True)
    found = predict(free, load)
    assert found.throughput == pytest.approx(PROBES / (3 * 0.1), rel=0.1)
    doubled = predict(free, msgspec.structs.replace(load, replicas=2))
    assert doubled.throughput == pytest.approx(2 * PROBES / (3 * 0.1), rel=0.15)


def test_transformers_that_remember_apart_ask_more(prices: dict[str, Any]) -> None:
    apart = msgspec.structs.replace(COSTS, requests_apart=4.5)
    assert [apart.requests_at(n) for n in (1, 2, 4, 8)] == [3.0, 3.75, 4.5, 4.5]
    assert apart.resolve_at(4) == pytest.approx(1.5 * COSTS.resolve)
    free = msgspec.structs.replace(apart, resolve=0.01, site=0.01)
    found = predict(free, Load(searches=8, items=60, cdn_ms=100, transformer_only=True, replicas=4))
    assert found.throughput == pytest.approx(4 * PROBES / (4.5 * 0.1), rel=0.2)
    asked = Asked(sessions_an_hour=36_000, pace=50)
    many, few = (plan(costs, asked, prices, cells=1).pods["transformer"] for costs in (apart, COSTS))
    assert many == pytest.approx(1.5 * few, abs=1)


def test_a_plan_has_the_pods_that_its_work_takes(prices: dict[str, Any]) -> None:
    found = plan(COSTS, Asked(sessions_an_hour=36_000, pace=50), prices, cells=1)
    items = 10 * 20 * COSTS.items_per_video
    assert found.pods["transformer"] == ceil(items * COSTS.resolve / 1000 / BUSY)
    crawlers = found.pods["crawler"]
    crawling = (10 * (COSTS.crawl_session + 28 * COSTS.crawl_item) + crawlers * (340 * COSTS.hear + 0.6 * 600)) / 1000
    assert found.busy["crawler"] * crawlers * 2 == pytest.approx(crawling, abs=0.01)
    assert found.site_requests_per_s == 10
    assert found.servers == 3
    assert all(share <= BUSY + 0.001 for share in found.busy.values())


def test_hearing_all_records_bounds_a_cell(prices: dict[str, Any]) -> None:
    asked = Asked(sessions_an_hour=1_000_000, kept_h=1.0, pace=400)
    with pytest.raises(ValueError, match="no number of cells"):
        plan(COSTS, asked, prices, cells=1)
    found = plan(COSTS, asked, prices)
    assert found.cells > 1
    dearer = plan(msgspec.structs.replace(COSTS, hear=0.6), asked, prices)
    assert dearer.cells > found.cells


def test_a_turn_at_the_site_is_waited_for_as_theory_has_it(
    prices: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(sessions_an_hour=9 * 3600, pace=10, videos=1)
    sized = plan(COSTS, asked, prices, cells=1)
    spared = flow(COSTS, sized).turn_ms
    monkeypatch.setattr("benchmarks.scaling.flow.BURST", 1)
    # one server of fixed time, busy for 90 %: a job waits 0.9 / (2 * 0.1) of that time
    assert flow(COSTS, sized).turn_ms == pytest.approx(1000 / 10 * 0.9 / 0.2, rel=0.2)
    assert 150 < spared < 300, "a burst of four spares it three turns of 100 ms at most"


def test_no_plan_asks_more_of_the_site_than_it_bears(prices: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no number of cells"):
        plan(COSTS, Asked(sessions_an_hour=10_801), prices)
    assert plan(COSTS, Asked(sessions_an_hour=10_799), prices).cells == 1


def test_prices_may_be_ones_own(prices: dict[str, Any]) -> None:
    asked = Asked(sessions_an_hour=10_000)
    before = plan(COSTS, asked, prices).dollars_an_hour
    prices["node_hour"]["dollars"] *= 2
    after = plan(COSTS, asked, prices).dollars_an_hour
    assert after["pods"] == pytest.approx(2 * before["pods"])
    assert after["nats"] == pytest.approx(2 * before["nats"])
    assert after["to clients"] == before["to clients"]


def test_each_price_has_a_date_and_a_source(prices: dict[str, Any]) -> None:
    for name, price in prices.items():
        if name != "source":
            assert price["at"] and price["from"] and price["dollars"] > 0


def test_what_a_service_spends_is_told_by_item() -> None:
    found = predict(COSTS, Load(searches=4, items=100, known=True, cores=8)).processor_ms
    assert found["dedup"] == pytest.approx(COSTS.settle + 4 * COSTS.dedup_session / 400)
    assert found["crawler"] == pytest.approx(COSTS.emit + COSTS.hear, rel=0.01)  # each record is heard by it, too
    assert found["nats"] == pytest.approx(COSTS.broker_item + 2 * COSTS.broker_hear + 4 * COSTS.broker_session / 400)
    assert found["site"] == 0.0


# the simulation against what was measured


def test_the_simulation_errs_no_more_than_is_said() -> None:
    off = simulate_capacity.errors(kept(simulate_capacity.CHECKED).figures)
    ordered = sorted(off.values())
    assert len(ordered) >= 10
    assert ordered[len(ordered) // 2] <= MEDIAN_ERROR, off
    assert ordered[-1] <= MOST_ERROR, off


def test_what_is_kept_of_the_check_is_what_is_simulated_now() -> None:
    figures = {(one.of, one.name): one for one in kept(simulate_capacity.CHECKED).figures}
    measured = costs()
    small = [one for one in simulate_capacity.loads() if one[1] == "throughput"][:4]
    for name, what, x, load in small:
        expected = figures[f"{name} at {x}, predicted", what].median
        assert predict(measured, load).throughput == pytest.approx(expected, rel=0.01), (name, x)


def test_the_plan_that_is_kept_is_of_the_costs_that_are_kept() -> None:
    found = kept(simulate_capacity.KEPT).detail
    measured = costs()
    assert msgspec.convert(found["costs"], Costs) == measured
    for name, asked in simulate_capacity.QUESTIONS.items():
        there = found["answers"][name]["plan"]
        sized = plan(measured, asked, found["prices"])
        assert there["cells"] == sized.cells
        assert all(there["pods"][service] >= count for service, count in sized.pods.items())


# the pages


def test_the_tables_of_the_pages_are_of_what_is_kept() -> None:
    text = PAGE.read_text()
    assert made(text, of_curves(list(CURVES))) == text
    text = simulate_capacity.PAGE.read_text()
    assert made(text, simulate_capacity.makers()) == text


@pytest.mark.parametrize("name", CURVES)
def test_each_curve_has_its_figures_its_plot_and_its_place(name: str) -> None:
    found = curve(name)
    first = found.detail["points"][0]["label"]
    for one in found.figures:
        assert one.loads
        assert one.of == first or one.against == first
    plot = PAGE.parent / "scaling" / f"{name}.svg"
    assert plot.stat().st_size < 60_000
    assert "throughput" in plot.read_text()
    assert f"scaling/{name}.svg" in PAGE.read_text()
    assert f"<!-- curve: {name} -->" in PAGE.read_text()


# what the figures are made with


def test_ratios_are_to_the_first_point() -> None:
    points = [Point(x=1, label="1 replica"), Point(x=2, label="2 replicas"), Point(x=4, label="4 replicas")]
    for point, rate in zip(points, (100.0, 150.0, 200.0), strict=True):
        point.begins()
        for n in (0, 2, 1):
            point.add("throughput", "items/s", rate + n)
    found = Curve(name="x", title="X", grows="replicas", points=points).results("x")
    at = line(found, "throughput")
    assert (at.at, at.median, at.least, at.most) == ([1, 2, 4], [101, 151, 201], [100, 150, 200], [102, 152, 202])
    assert [one.ratio for one in found.figures[1:]] == [pytest.approx(rate / 101, rel=1e-3) for rate in (151, 201)]


def test_a_run_is_cut_into_ten_rates() -> None:
    slow_at_the_end = [0.01 * n for n in range(500)] + [5 + 0.02 * n for n in range(501)]
    rates = sliced(slow_at_the_end)
    assert rates[:4] == [pytest.approx(100)] * 4
    assert rates[6:] == [pytest.approx(50)] * 4


def test_a_plot_is_a_small_svg_of_all_points(tmp_path: Path) -> None:
    points = [Point(x=x, label=f"{x} keys") for x in (1_000, 1_000_000)]
    for point in points:
        point.begins()
        point.add("throughput", "claims/s", 10_000 / point.x)
        point.add("p50", "ms", 0.3)
    found = Curve(name="k", title="Keys and claims", grows="keys", points=points, log=True).results("x")
    draw(found, tmp_path / "k.svg")
    text = (tmp_path / "k.svg").read_text()
    ElementTree.fromstring(text)
    assert "Keys and claims" in text
    assert "1,000,000" in text
