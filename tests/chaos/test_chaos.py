"""Two minutes of random faults, and forty seconds of them on a cluster: nothing lost, nothing twice."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

import pytest

from tests.chaos.options import ChaosOptions
from tests.chaos.run import run
from tests.chaos.schedule import schedule
from tests.fake_pinterest import RunningSite, running_site


@pytest.fixture
def site() -> Iterator[RunningSite]:
    with running_site(cdn_latency_ms=2) as site:
        yield site


def say(line: str) -> None:
    print(line, file=sys.stderr)


@pytest.mark.chaos
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "options",
    [
        ChaosOptions(minutes=2, seed=1, kills_per_second=2, clients=24),
        ChaosOptions(minutes=40 / 60, seed=2, kills_per_second=1, clients=16, cluster=True),
    ],
    ids=["alone", "cluster"],
)
async def test_nothing_is_lost_and_nothing_comes_twice(site: RunningSite, options: ChaosOptions) -> None:
    report = await run(options, site.origin, say)
    print(report.text())
    assert report.failures == []
    shutil.rmtree(report.folder, ignore_errors=True)


def test_a_seed_replays_the_schedule() -> None:
    options = ChaosOptions(minutes=10, seed=7)
    assert schedule(options) == schedule(options)
    assert schedule(options) != schedule(ChaosOptions(minutes=10, seed=8))


@pytest.mark.parametrize("cluster", [False, True])
def test_a_schedule_has_every_kind_of_fault_and_ends_in_time(cluster: bool) -> None:
    options = ChaosOptions(minutes=5, seed=3, cluster=cluster)
    faults = schedule(options)
    kinds = {"kill", "stall", "terminate", "outage", "cut", "slow", "copies", "consumer"}
    assert {fault.kind for fault in faults} == kinds | ({"leader"} if cluster else {"broker"})
    assert max(fault.until_s for fault in faults) <= options.seconds
    kills = sum(fault.kind == "kill" for fault in faults)
    assert kills > 0.35 * options.seconds * options.kills_per_second
    assert max(fault.lasts_s for fault in faults if fault.kind == "outage") == 30
