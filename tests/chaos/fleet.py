"""The system under test: replicas of every service, each behind a proxy of its own, started again whenever they end."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx2

from libs.client.broker import Broker, free_port
from libs.common.tasks import end
from tests.chaos.nursery import Child, Nursery
from tests.chaos.options import SERVICES, ChaosOptions
from tests.patient import PATIENT
from tests.tcp_proxy import TcpProxy

READY_S = 60.0
POLL_S = 0.05
STEADY_S = 1.0  # one that ends by itself sooner than this is started again a little later
PAUSE_S = 0.5
STOP_S = 15.0


class Replica:
    """One replica of a service, through all its processes."""

    def __init__(self, service: str, number: int, module: str, proxy: TcpProxy, environ: dict[str, str]) -> None:
        self.service, self.number, self.module, self.proxy = service, number, module, proxy
        self.environ = environ
        self.child: Child | None = None
        self.ends: Counter[int] = Counter()

    @property
    def name(self) -> str:
        """Such as `crawler-1`."""
        return f"{self.service}-{self.number}"

    @property
    def ready_url(self) -> str:
        """Where it says that it is ready."""
        port = self.environ["GATEWAY_PORT" if self.service == "gateway" else "HEALTH_PORT"]
        return f"http://127.0.0.1:{port}/readyz"


class Fleet:
    """`async with Fleet(options, folder, brokers, origin) as fleet`: every replica has been started."""

    def __init__(self, options: ChaosOptions, folder: Path, brokers: list[Broker], origin: str) -> None:
        self.options, self.folder, self.brokers, self.origin = options, folder, brokers, origin
        self.replicas: dict[str, Replica] = {}
        self._running = AsyncExitStack()
        self._nursery: Nursery | None = None
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def gateways(self) -> list[str]:
        """Every gateway's WebSocket."""
        ports = [each.environ["GATEWAY_PORT"] for each in self.replicas.values() if each.service == "gateway"]
        return [f"ws://127.0.0.1:{port}/ws" for port in ports]

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as starting:
            modules = {service: f"services.{service}" for service in SERVICES}
            if self.options.crawler == "catalogue":
                modules["crawler"] = "tests.chaos.crawler"
            self._nursery = await starting.enter_async_context(Nursery(list(modules.values())))
            for service, module in modules.items():
                for number in range(1, self.options.replicas + 1):
                    targets = [("127.0.0.1", broker.port) for broker in self.brokers]
                    proxy = await starting.enter_async_context(TcpProxy(*targets))
                    replica = Replica(service, number, module, proxy, self._environ(proxy))
                    self.replicas[replica.name] = replica
            self._running = starting.pop_all()
        self._keepers = [
            asyncio.create_task(self._keep(replica), name=f"keep {replica.name}") for replica in self.replicas.values()
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        for replica in self.replicas.values():
            self.signal(replica.name, signal.SIGCONT)
            self.signal(replica.name, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S if kind is None else 0):
                await asyncio.gather(*(asyncio.shield(keeper) for keeper in self._keepers), return_exceptions=True)
        await end(*self._keepers)
        await self._running.aclose()

    def _environ(self, proxy: TcpProxy) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
            "NATS_URL": proxy.url,
            "HEALTH_HOST": "127.0.0.1",
            "HEALTH_PORT": str(free_port()),
            "GATEWAY_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(free_port()),
            "SITE_URL": self.origin,
            "MEDIA_HOSTS": urlsplit(self.origin).netloc,
            **PATIENT,
            "SESSIONS": "64" if self.options.crawler == "catalogue" else "4",
            "SESSION_DEADLINE_S": "3000",  # so that one that hangs is seen to hang
            "TRACED_SHARE": "0",
        }

    def signal(self, name: str, number: signal.Signals) -> bool:
        """Sends a signal to a replica; returns whether a process was there to receive it."""
        child = self.replicas[name].child
        return child is not None and child.signal(number)

    async def ready(self, within_s: float = READY_S) -> list[str]:
        """Waits until every replica says that it is ready; returns those that do not."""
        late = dict(self.replicas)
        end_at = time.monotonic() + within_s
        async with httpx2.AsyncClient(trust_env=False) as client:
            while late and time.monotonic() < end_at:
                for name, replica in list(late.items()):
                    with suppress(httpx2.HTTPError):
                        if (await client.get(replica.ready_url, timeout=2)).status_code == 200:
                            del late[name]
                await asyncio.sleep(POLL_S)
        return sorted(late)

    async def _keep(self, replica: Replica) -> None:
        assert self._nursery is not None
        log = self.folder / f"{replica.name}.log"
        while not self._stopping:
            began = time.monotonic()
            replica.child = await self._nursery.start(replica.module, replica.environ, log)
            code = await asyncio.shield(replica.child.ended)
            replica.ends[code] += 1
            if code != -signal.SIGKILL and time.monotonic() - began < STEADY_S:
                await asyncio.sleep(PAUSE_S)
