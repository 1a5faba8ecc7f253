"""Runs the system of another revision under load, and replaces it by this one, replica by replica.

Every search that was begun must end with the exact videos, each once. The order is the one that docs/operations.md
gives: the broker's users, the set-up job, then dedup, transformers, crawlers, gateways; down, the users come last, for
what is newer needs them to its end. Exit code 0 where nothing was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from libs.client.broker import Broker, free_port
from libs.client.client import Client
from libs.common import broker_keys
from libs.common.process import apart, how_it_ended, tell_to_stop
from libs.common.tasks import end
from tests.e2e.answer import assert_right
from tests.fake_pinterest import RunningSite, expected_results, running_site
from tests.guarded import ANY_MONITORING
from tests.patient import PATIENT
from tests.wait import wait_until

ROOT = Path(__file__).parents[2]
ORDER = ("dedup", "transformer", "crawler", "gateway")
REPLICAS = 2
SEARCHES = 6  # at once
READY_S, STOP_S = 90.0, 60.0
SETTLE_S = 20.0  # of load before, between and after


class Replica:
    """One replica of a service, of one revision at a time."""

    def __init__(self, service: str, number: int, environ: dict[str, str], folder: Path) -> None:
        self.service, self.name = service, f"{service}-{number}"
        self.environ, self.log = environ, folder / f"{service}-{number}.log"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, root: Path) -> None:
        """Starts the code of `root`, and returns when it is ready."""
        environ = {**self.environ, "PYTHONPATH": str(root)}
        command = [sys.executable, "-P", "-m", f"services.{self.service}"]
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, cwd=root, env=environ, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, **apart()
            )
        port = self.environ["GATEWAY_PORT" if self.service == "gateway" else "HEALTH_PORT"]
        async with asyncio.timeout(READY_S), httpx2.AsyncClient(trust_env=False) as client:
            while True:
                if self.process.returncode is not None:
                    raise RuntimeError(f"{self.name} {how_it_ended(self.process.returncode)}; see {self.log}")
                with suppress(httpx2.HTTPError):
                    if (await client.get(f"http://127.0.0.1:{port}/readyz", timeout=2)).status_code == 200:
                        return
                await asyncio.sleep(0.1)

    async def stop(self) -> int:
        """Tells it to stop, and returns its exit code."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            tell_to_stop(self.process.pid)
        try:
            async with asyncio.timeout(STOP_S):
                return await self.process.wait()
        except TimeoutError:
            self.process.kill()
            return await self.process.wait()


class Load:
    """Searches, one after the other in each of several lanes, and what came of them."""

    def __init__(self, urls: list[str]) -> None:
        self.client = Client(",".join(urls))
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.ending = False
        self._number = 0

    async def lane(self) -> None:
        """Searches until the load is told to end."""
        while not self.ending:
            self._number += 1
            query = f"bowls pins:60 size:12 seed:upgrade{self._number} latency:250"
            try:
                videos = [video async for video in self.client.search(query, limit=1000)]
                assert_right(videos, expected_results(query))
            except Exception as error:  # each is told at the end, and fails the run
                self.outcomes["wrong"] += 1
                self.wrong.append(f"{query}: {type(error).__name__} {error}"[:300])
            else:
                self.outcomes["right"] += 1


class GuardedBroker(Broker):
    """One that knows the users of one revision at a time."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "jetstream", config=f'include "server.conf"\n{ANY_MONITORING}')
        self.keys = folder / "keys"
        self.store.mkdir()
        (self.store / "keys").symlink_to(self.keys / broker_keys.SERVER)

    def known_as(self, user: str) -> dict[str, str]:
        """What a user is told of it."""
        return {"NATS_URL": self.url, "NATS_NKEY_FILE": str(broker_keys.seed_file(self.keys, user))}

    def admit(self, root: Path) -> None:
        """Makes the keys that a revision's users lack, and lays out its configuration."""
        command = [sys.executable, "-P", "-m", "libs.common.broker_keys", str(self.keys)]
        environ = {**os.environ, "PYTHONPATH": str(root)}
        subprocess.run(command, cwd=root, env=environ, check=True, stdout=subprocess.DEVNULL)
        for file in (root / "deploy" / "nats").glob("*.conf"):
            shutil.copy(file, self.store)

    async def reload(self) -> None:
        """Returns when it goes by the configuration that is laid out now."""
        assert self.process is not None
        before = self._reloads()
        self.process.send_signal(signal.SIGHUP)
        await wait_until(lambda: self._reloads() > before, "the broker has read its configuration anew")

    def _reloads(self) -> int:
        return self.log.read_text(errors="replace").count("Reloaded server configuration")


def environment(site: RunningSite, broker: GuardedBroker, service: str) -> dict[str, str]:
    """What a replica is told."""
    return {
        **os.environ,
        **PATIENT,
        **broker.known_as(service),
        "SITE_URL": site.origin,
        "MEDIA_HOSTS": urlsplit(site.origin).netloc,
        "HEALTH_HOST": "127.0.0.1",
        "HEALTH_PORT": str(free_port()),
        "GATEWAY_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(free_port()),
    }


async def set_up(root: Path, broker: GuardedBroker) -> None:
    """The set-up job of a revision."""
    environ = {**os.environ, **broker.known_as("streams"), "PYTHONPATH": str(root)}
    command = [sys.executable, "-P", "-m", "libs.common.streams"]
    process = await asyncio.create_subprocess_exec(*command, cwd=root, env=environ)
    if code := await process.wait():
        raise RuntimeError(f"the set-up job ended {how_it_ended(code)}")


async def roll(
    old: Path, new: Path, site: RunningSite, broker: GuardedBroker, folder: Path, *, down: bool = False
) -> bool:
    """From `old` to `new`; says what came of it."""
    await set_up(old, broker)
    replicas = [
        Replica(service, number, environment(site, broker, service), folder)
        for service in ORDER
        for number in range(1, REPLICAS + 1)
    ]
    load = Load([f"ws://127.0.0.1:{each.environ['GATEWAY_PORT']}/ws" for each in replicas if each.service == "gateway"])
    lanes: list[asyncio.Task[None]] = []
    codes: Counter[int] = Counter()
    try:
        await asyncio.gather(*(replica.start(old) for replica in replicas))
        began = time.monotonic()
        lanes = [asyncio.create_task(load.lane()) for _ in range(SEARCHES)]
        await asyncio.sleep(SETTLE_S)
        if not down:
            broker.admit(new)
            await broker.reload()
        await set_up(new, broker)
        for replica in replicas:
            codes[await replica.stop()] += 1
            await replica.start(new)
            print(
                f"{time.monotonic() - began:4.0f} s  {replica.name} is new; searches {dict(load.outcomes)}", flush=True
            )
        if down:
            broker.admit(new)
            await broker.reload()
        await asyncio.sleep(SETTLE_S)
        load.ending = True
        await asyncio.gather(*lanes)
    finally:
        await end(*lanes)
        await asyncio.gather(*(replica.stop() for replica in replicas if replica.process is not None))
    for line in load.wrong:
        print(line)
    print(f"searches {dict(load.outcomes)}, exit codes {dict(codes)}")
    return not load.wrong and load.outcomes["right"] > SEARCHES and set(codes) == {0}


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/upgrade", description=__doc__)
    parser.add_argument("revision", help="the commit to come from, such as HEAD~20")
    parser.add_argument("--down", action="store_true", help="the other way: from this checkout to that commit")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pinstream-upgrade-") as name:
        folder = Path(name)
        other = folder / "other"
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", arguments.revision], check=True, capture_output=True
        ).stdout
        other.mkdir()
        subprocess.run(["tar", "-x", "-C", str(other)], input=archive, check=True)
        old, new = (ROOT, other) if arguments.down else (other, ROOT)
        broker = GuardedBroker(folder)
        broker.admit(old)
        with running_site(latency_ms=20, cdn_latency_ms=5) as site, ExitStack() as running:
            running.callback(broker.stop)
            broker.start()
            right = asyncio.run(roll(old, new, site, broker, folder, down=arguments.down))
            if not right:
                for log in [*sorted(folder.glob("*.log")), broker.log]:
                    print(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}")
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main())
