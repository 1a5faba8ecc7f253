"""The whole system without its browser: each service's own work in this process, on a connection of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2

from libs.common import subjects
from libs.common.bus import connect
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, await_streams, set_up
from services.crawler.__main__ import work
from services.crawler.settings import CrawlerSettings
from services.dedup import __main__ as dedup
from services.dedup.settings import DedupSettings
from services.gateway import __main__ as gateway
from services.gateway.settings import GatewaySettings
from services.transformer import __main__ as transformer
from services.transformer.settings import TransformerSettings
from tests.faults.reader import Reader
from tests.patient import PATIENT_S

SERVICES = ("gateway", "crawler", "transformer", "dedup")
READY_S = 20.0
STOP_S = 20.0
POLL_S = 0.02


class System:
    """`async with System(origin, url) as system`: inside, all services are ready.

    `url` is the broker's; `urls` are those of services that reach it another way, `settings` what a service is told
    besides; `without` are left out, for a test that runs them itself. Leaving fails where a service has ended.
    """

    def __init__(
        self,
        origin: str,
        url: str,
        *,
        urls: Mapping[str, str] | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        without: tuple[str, ...] = (),
        streams: StreamSettings | None = None,
    ) -> None:
        self.origin, self.url = origin, url
        self.urls, self.settings = dict(urls or {}), dict(settings or {})
        self.services = [service for service in SERVICES if service not in without]
        self.streams = streams or StreamSettings()
        self._reserved = {service: _reserved() for service in SERVICES}
        self.ports = {service: int(sock.getsockname()[1]) for service, sock in self._reserved.items()}
        self.stopping = {service: asyncio.Event() for service in SERVICES}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def ws_url(self) -> str:
        """The gateway's WebSocket."""
        return f"ws://127.0.0.1:{self.ports['gateway']}/ws"

    async def __aenter__(self) -> Self:
        async with connect(Settings(nats_url=self.url, **self.settings.get("streams", {})), "streams") as bus:
            await set_up(bus, self.streams)
        for service in self.services:
            self.start(service)
        try:
            for service in self.services:
                await self.ready(service)
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = [service for service, task in self.tasks.items() if task.done()]
        outcomes = await self._stop()
        if error is None:
            assert ended == [], f"ended by themselves: {ended}: {outcomes}"
            assert [outcome for outcome in outcomes if isinstance(outcome, BaseException)] == []

    def start(self, service: str) -> None:
        """Starts a service; does not wait for it to be ready."""
        self.stopping[service].clear()
        self.tasks[service] = asyncio.create_task(self._serve(service), name=service)

    async def checks(self, service: str) -> dict[str, bool] | None:
        """What /readyz of a service says, None where it does not answer."""
        with suppress(httpx2.HTTPError):
            async with httpx2.AsyncClient(trust_env=False) as client:
                answer = await client.get(f"http://127.0.0.1:{self.ports[service]}/readyz", timeout=2)
            checks: dict[str, bool] = answer.json()
            return checks
        return None

    async def ready(self, service: str, *, ready: bool = True, within_s: float = READY_S) -> None:
        """Returns when a service says that it is ready, or that it is not."""
        end = asyncio.get_running_loop().time() + within_s
        checks: dict[str, bool] | None = None
        while asyncio.get_running_loop().time() < end:
            task = self.tasks.get(service)
            assert task is None or not task.done(), f"{service} has ended: {task}"
            checks = await self.checks(service)
            if checks is not None and all(checks.values()) == ready:
                return
            await asyncio.sleep(POLL_S)
        raise AssertionError(f"{service} was not {'ready' if ready else 'unready'} in {within_s:g} s: {checks}")

    async def _serve(self, service: str) -> None:
        stop = self.stopping[service]
        common: dict[str, Any] = {
            "nats_url": self.urls.get(service, self.url),
            "health_port": 0 if service == "gateway" else self.ports[service],  # it says how it is at its own port too
            **self.settings.get(service, {}),
        }
        site: dict[str, Any] = {"site_url": self.origin, "media_hosts": (urlsplit(self.origin).netloc,)}
        match service:
            case "gateway":
                await gateway.serve(GatewaySettings(gateway_port=self.ports[service], **common), stop)
            case "crawler":
                settings = CrawlerSettings(**site, **common)
                async with connect(settings, "crawler") as bus:
                    await await_streams(bus, subjects.CRAWLER)
                    await work(bus, settings, stop, Reader(self.origin).read, lambda: True)
            case "transformer":
                patient: dict[str, Any] = {
                    "site_requests_per_second": 50,
                    "request_timeout_s": PATIENT_S,
                    "item_timeout_s": 5 * PATIENT_S,
                    "site_wait_s": PATIENT_S,
                }
                await transformer.serve(TransformerSettings(**patient, **site, **common), stop)
            case "dedup":
                await dedup.serve(DedupSettings(**common), stop)

    async def _stop(self) -> list[BaseException | None]:
        for stop in self.stopping.values():
            stop.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await asyncio.wait(self.tasks.values())
        for task in self.tasks.values():
            task.cancel()
        outcomes = await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        for sock in self._reserved.values():
            sock.close()
        return outcomes


def _reserved() -> socket.socket:
    """Keeps a port for a service, which listens there by SO_REUSEADDR too."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock
