"""The benchmark of the session log, at a size that takes a second: what it measures is there, and it breaks nothing."""

from __future__ import annotations

from benchmarks.scaling.curve import evidence, line
from benchmarks.scaling.keys import Sizes, keys


async def test_the_session_log_is_measured_at_each_size_and_after_a_restart() -> None:
    found = (await keys(Sizes(keys=(400, 800), runs=1, claims=100, alone=20))).results("x")
    rates = line(found, "throughput")
    assert rates.at == [400, 800]
    assert all(rate > 0 for rate in rates.median)
    assert evidence(found, 400)["keys"] == 400
    assert evidence(found, 800)["keys"] == 800
    assert all(took_s > 0 for took_s in line(found, "restart").median)
