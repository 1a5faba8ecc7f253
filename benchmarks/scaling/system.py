"""The system under measurement: any number of each service, with crawlers that read a catalogue or a site."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from benchmarks.scaling.meter import pids
from libs.client.local import LocalOptions, LocalStack
from libs.common import subjects
from libs.common.bus import Bus, connect
from libs.common.process import die_with_parent
from libs.common.settings import Settings
from tests.fake_pinterest import RunningSite
from tests.wait import wait_for

PROXY = {"TRUSTED_PROXIES": "127.0.0.1", "ANONYMOUS": "yes"}  # each client comes from an address of its own
ENVIRON = {
    **PROXY,
    "LOG_LEVEL": "WARNING",
    "REQUESTS_PER_MINUTE_PER_ADDRESS": "100000",
    "OTEL_METRICS_EXPORTER": "none",
    "SESSION_DEADLINE_S": "3000",
}
CATALOGUE = {"PAGE_PINS": "50", "PAGE_LATENCY_S": "0"}
QUIET_S = 60.0


class System:
    """What runs, by service."""

    def __init__(self, stack: LocalStack, bus: Bus, of: dict[str, list[int]]) -> None:
        self.stack, self.bus, self.of = stack, bus, of

    @property
    def ports(self) -> list[int]:
        """Where each gateway listens."""
        return [urlsplit(url).port or 0 for url in self.stack.ws_urls]

    async def emptied(self, *streams: str) -> None:
        """Returns when nothing is left in these queues."""

        async def none() -> bool:
            left = [(await self.bus.api(f"STREAM.INFO.{stream}"))["state"]["messages"] for stream in streams]
            return not any(left)

        await wait_for(none, f"{streams} are empty", QUIET_S)

    async def purge(self, *streams: str) -> None:
        """Empties streams; nobody may be at work on what is in them."""
        for stream in streams:
            await self.bus.api(f"STREAM.PURGE.{stream}")


@asynccontextmanager
async def system(
    site: RunningSite,
    *,
    catalogues: int = 0,
    crawlers: int = 0,
    transformers: int = 0,
    dedups: int = 0,
    gateways: int = 0,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[System]:
    """`catalogues` are crawlers without a browser, that read the stand-in's catalogue; the rest is as it is."""
    given = {**ENVIRON, **(environ or {})}
    options = LocalOptions(
        site_url=site.origin,
        media_hosts=urlsplit(site.origin).netloc,
        crawlers=crawlers,
        transformers=transformers,
        dedups=dedups,
        gateways=gateways,
        restart=False,
        environ=given,
    )
    async with AsyncExitStack() as running:
        stack = await running.enter_async_context(LocalStack(options))
        bus = await running.enter_async_context(connect(Settings(nats_url=stack.nats_url), "benchmark"))
        of = {**pids(stack), "site": [site.pid]}
        for _ in range(catalogues):
            pid = await running.enter_async_context(_catalogue(stack, site, given))
            of.setdefault("crawler", []).append(pid)
        if catalogues:
            await _crawlers(bus, catalogues)
        yield System(stack, bus, of)


@asynccontextmanager
async def _catalogue(stack: LocalStack, site: RunningSite, environ: Mapping[str, str]) -> AsyncIterator[int]:
    given = {**os.environ, **CATALOGUE, **environ, "NATS_URL": stack.nats_url, "SITE_URL": site.origin}
    given["HEALTH_PORT"] = "0"
    with (stack.folder / "catalogue.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.chaos.crawler", env=given, stderr=log, stdout=log, preexec_fn=die_with_parent
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


async def _crawlers(bus: Bus, count: int) -> None:
    """Returns when so many of them wait for requests."""

    async def waiting() -> bool:
        info = await bus.api(f"CONSUMER.INFO.{subjects.SEARCHES}.{subjects.CRAWLER}")
        return int(info["num_waiting"]) >= count

    await wait_for(waiting, f"{count} crawlers wait for requests", QUIET_S)
