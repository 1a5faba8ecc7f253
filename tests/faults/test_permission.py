"""A permission that a service lacks at the broker."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from libs.client.broker import Broker, free_port
from libs.client.local import ServiceProcess
from libs.common import subjects
from tests.fake_pinterest import RunningSite
from tests.faults.system import System
from tests.faults.watch import Watch
from tests.patient import MOST_PATIENT
from tests.wait import wait_for, wait_until

USERS = ("tests", "gateway", "crawler", "transformer", "dedup")


def config(denied: dict[str, str]) -> str:
    """A user a service; `denied` is what one may not publish on."""
    lines = []
    for user in USERS:
        refusal = f', permissions: {{ publish: {{ deny: "{denied[user]}" }} }}' if user in denied else ""
        lines.append(f"    {{ user: {user}, password: secret{refusal} }}")
    return "authorization {\n  users: [\n" + "\n".join(lines) + "\n  ]\n}\n"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that lets the transformer publish nothing that it has resolved."""
    broker = Broker(tmp_path / "jetstream", config=config({"transformer": subjects.ALL_DIRECT}))
    broker.store.mkdir()
    broker.start()
    yield broker
    broker.stop()


def give_all(broker: Broker) -> None:
    """Lets every user do everything, as an operator does: the file changed and read anew."""
    (broker.store / "nats-server.conf").write_text(config({}))
    assert broker.process is not None
    os.kill(broker.process.pid, signal.SIGHUP)


async def test_a_refused_permission_is_named_turns_the_service_unready_and_loses_nothing(
    site: RunningSite, broker: Broker, tmp_path: Path
) -> None:
    def url(user: str) -> str:
        return f"nats://{user}:secret@127.0.0.1:{broker.port}"

    port, log = free_port(), tmp_path / "transformer.log"
    environ = {
        **os.environ,
        "NATS_URL": url("transformer"),
        "HEALTH_PORT": str(port),
        "SITE_URL": site.origin,
        "MEDIA_HOSTS": urlsplit(site.origin).netloc,
        **MOST_PATIENT,
    }
    ready_url = f"http://127.0.0.1:{port}/readyz"
    transformer = ServiceProcess("transformer", 0, environ, ready_url, log)

    async def readiness() -> int:
        try:
            async with httpx2.AsyncClient(trust_env=False) as client:
                return (await client.get(ready_url, timeout=2)).status_code
        except httpx2.HTTPError:
            return 0

    async def is_ready() -> bool:
        return await readiness() == 200

    async def is_unready() -> bool:
        return await readiness() == 503

    urls = {user: url(user) for user in USERS}
    async with System(site.origin, url("tests"), urls=urls, without=("transformer",)) as system:
        await transformer.start()
        assert transformer.process is not None
        try:
            await wait_for(is_ready, "the transformer is ready")
            watch = Watch(system.ws_url, "vases pins:60 seed:permission")
            await wait_for(is_unready, "readiness fails")
            await wait_until(lambda: named(log), "the log names permission and subject")
            assert watch.videos == []
            assert not watch.task.done()
            give_all(broker)
            await watch.exact()
            await wait_for(is_ready, "ready again", timeout_s=60)
        finally:
            transformer.process.terminate()
            await transformer.process.wait()


def named(log: Path) -> bool:
    """Whether an error in the log says which permission on which subject is lacking."""
    for line in log.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            sys.stderr.write(f"no JSON: {line}\n")
            continue
        text = json.dumps(entry)
        if entry.get("level") == "error" and "publish" in text.lower() and "media.direct." in text:
            return True
    return False
