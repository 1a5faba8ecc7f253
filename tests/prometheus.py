"""A real Prometheus, which scrapes what a test names."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import yaml

from libs.client.broker import free_port
from tests.wait import wait_for

ROOT = Path(__file__).parents[1]
UNPACKED = ROOT / ".venv/prometheus/usr/bin"  # by scripts/install
SCRAPE_S = 0.5


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`."""
    unpacked = UNPACKED / name
    found = str(unpacked) if unpacked.exists() else shutil.which(name)
    assert found is not None, f"{name} is missing; run scripts/install"
    return found


class Prometheus:
    """Use `prometheus`."""

    def __init__(self, url: str, client: httpx2.AsyncClient) -> None:
        self.url, self.client = url, client

    async def ask(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The labels and value of each series that an expression gives now. Fails where it cannot be evaluated."""
        answer = await self.client.get(f"{self.url}/api/v1/query", params={"query": expression})
        told: dict[str, Any] = answer.json()
        assert told["status"] == "success", f"{expression}: {told}"
        data = told["data"]
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(series["metric"], float(series["value"][1])) for series in data["result"]]


@asynccontextmanager
async def prometheus(folder: Path, targets: Mapping[str, Sequence[str]]) -> AsyncIterator[Prometheus]:
    """Scrapes `targets` (addresses by job) every SCRAPE_S; inside, all of them are up."""
    jobs = [{"job_name": job, "static_configs": [{"targets": list(told)}]} for job, told in targets.items()]
    interval = f"{round(SCRAPE_S * 1000)}ms"
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump({"global": {"scrape_interval": interval}, "scrape_configs": jobs}))
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address={address}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(program("prometheus"), *options, stdout=log, stderr=log)
    try:
        async with httpx2.AsyncClient(trust_env=False) as client:
            running = Prometheus(f"http://{address}", client)

            async def up() -> bool:
                try:
                    return [value for _, value in await running.ask("sum(up)")] == [sum(map(len, targets.values()))]
                except (httpx2.TransportError, ValueError):  # it answers 503, and no JSON, while it starts
                    return False

            await wait_for(up, "Prometheus scrapes every target")
            yield running
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
