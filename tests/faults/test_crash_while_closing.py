"""A crawler that dies while it closes a session, at each point at which it matters."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from libs.client.broker import Broker
from libs.common.process import die_with_parent
from tests.fake_pinterest import RunningSite
from tests.faults.dying_crawler import POINTS
from tests.faults.system import System
from tests.faults.watch import Watch

ACK_WAIT_S = 2.0
ROOT = Path(__file__).parents[2]


async def start(point: str, site: RunningSite, broker: Broker, log: Path) -> asyncio.subprocess.Process:
    """A crawler that takes one session and dies at `point`."""
    environ = {**os.environ, "NATS_URL": broker.url, "SITE_URL": site.origin, "SESSIONS": "1", "HEALTH_PORT": "0"}
    with log.open("ab") as file:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.dying_crawler", point),
            cwd=ROOT,
            env=environ,
            stdout=file,
            stderr=file,
            preexec_fn=die_with_parent,
        )


async def test_a_crawler_killed_at_any_point_of_its_closing_leaves_a_session_that_completes_once(
    site: RunningSite, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.common.streams.ACK_WAIT_S", ACK_WAIT_S)
    async with System(site.origin, broker.url, without=("crawler",)) as system:
        crawlers = [await start(point, site, broker, tmp_path / "crawlers.log") for point in POINTS]
        watches = [Watch(system.ws_url, f"pots pins:60 seed:closing{n}") for n in range(len(POINTS))]
        try:
            async with asyncio.timeout(60):
                codes = await asyncio.gather(*(crawler.wait() for crawler in crawlers))
        finally:
            for crawler in crawlers:
                if crawler.returncode is None:
                    crawler.kill()
        assert codes == [-signal.SIGKILL] * len(POINTS), (tmp_path / "crawlers.log").read_text()[-2000:]
        system.start("crawler")
        await asyncio.gather(*(watch.exact() for watch in watches))
