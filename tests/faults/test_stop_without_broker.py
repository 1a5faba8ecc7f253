"""Services told to stop while their broker cannot be reached."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from libs.client.broker import Broker
from libs.client.local import LocalOptions, LocalStack
from tests.fake_pinterest import RunningSite
from tests.faults.stack import DRAIN_S
from tests.faults.watch import Watch
from tests.patient import MOST_PATIENT
from tests.tcp_proxy import TcpProxy

ENDING_S = 9.0  # beyond the drain: what is told to the broker in vain, the browser's end, on a busy machine


@pytest.mark.parametrize("hole", [False, True], ids=["refused", "silent"])
async def test_services_that_cannot_reach_their_broker_stop_in_time_all_the_same(
    site: RunningSite, broker: Broker, monkeypatch: pytest.MonkeyPatch, hole: bool
) -> None:
    async with TcpProxy(("127.0.0.1", broker.port)) as network:
        monkeypatch.setenv("NATS_URL", network.url)
        options = LocalOptions(
            site_url=site.origin,
            media_hosts=urlsplit(site.origin).netloc,
            environ={**MOST_PATIENT, "DRAIN_TIMEOUT_S": str(DRAIN_S)},
            restart=False,
        )
        async with LocalStack(options) as stack:
            watch = Watch(stack.ws_url, "mugs pins:600 size:20 seed:stop latency:200")
            await watch.has(5)
            await network.cut(hole=hole)
            processes = {service.name: service.process for service in stack.services}
            took_s: dict[str, float] = {}

            async def ended(name: str, process: asyncio.subprocess.Process) -> int:
                process.terminate()
                told = asyncio.get_running_loop().time()
                code = await process.wait()
                took_s[name] = round(asyncio.get_running_loop().time() - told, 1)
                return code

            async with asyncio.timeout(60):
                codes = await asyncio.gather(*(ended(name, process) for name, process in processes.items() if process))
            watch.task.cancel()
            words = {service.name: service.last_words() for service in stack.services}
            assert dict(zip(processes, codes, strict=True)) == dict.fromkeys(processes, 0), words
            assert max(took_s.values()) < DRAIN_S + ENDING_S, took_s
