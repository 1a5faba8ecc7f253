"""Everything on one machine: a broker, the streams, and each service as processes of their own."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2
import msgspec
import psutil

from libs.client.broker import Broker, free_port
from libs.client.errors import StackFailed
from libs.common.bus import connect
from libs.common.errors import PinstreamError
from libs.common.process import apart, how_it_ended, leashed, tell_to_stop
from libs.common.settings import from_environment
from libs.common.streams import StreamSettings, set_up

READY_S = 60.0
STOP_S = 15.0  # longer than a service's drain
POLL_S = 0.03
BROKER_POLL_S = 0.25
RESTART_FIRST_S, RESTART_MOST_S = 0.1, 5.0
STEADY_S = 10.0  # one that lived this long is restarted at once


class LocalOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. `environ` is for every service, `environ_of` for those of a name, of which `streams` is one.

    None for `store` keeps the streams only while it runs; None for `nats_url` (and no NATS_URL) starts a broker.
    """

    site_url: str | None = None
    media_hosts: str | None = None
    gateway_host: str = "127.0.0.1"
    gateway_port: int = 0
    gateways: int = 1
    crawlers: int = 1
    transformers: int = 1
    dedups: int = 1
    store: Path | None = None
    nats_url: str | None = None
    restart: bool = True
    environ: Mapping[str, str] = {}
    environ_of: Mapping[str, Mapping[str, str]] = {}
    say: Callable[[str], None] = lambda _line: None


def _by_tls(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("TLS_CERT_FILE"))


class ServiceProcess:
    """One replica of a service; restarted when it dies, unless the stack is told not to."""

    def __init__(self, service: str, index: int, environ: Mapping[str, str], ready_url: str, log: Path) -> None:
        self.service, self.index = service, index
        self.environ = dict(environ)
        self.ready_url = ready_url
        self.log = log
        self.restarts = 0
        self.process: asyncio.subprocess.Process | None = None

    @property
    def name(self) -> str:
        """Such as `crawler 1`."""
        return f"{self.service} {self.index + 1}"

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self.process is not None, "not started"
        return self.process.pid

    async def start(self) -> None:
        """Starts it; does not wait for it to be ready."""
        environ, stdin = leashed(self.environ)
        with self.log.open("ab") as file:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                f"services.{self.service}",
                stdin=stdin,
                stdout=file,
                stderr=file,
                env=environ,
                **apart(),
            )

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-8:])


class LocalStack:
    """`async with LocalStack(LocalOptions(...)) as stack`: inside, all services are ready."""

    def __init__(self, options: LocalOptions) -> None:
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="pinstream-"))
        self.broker: Broker | None = None
        self.services: list[ServiceProcess] = []
        self.nats_url = options.nats_url or os.environ.get("NATS_URL", "")
        self._supervisors: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def ws_url(self) -> str:
        """The first gateway's WebSocket."""
        return self.ws_urls[0]

    @property
    def ws_urls(self) -> list[str]:
        """Every gateway's WebSocket."""
        host = _reachable(self.options.gateway_host)
        return [
            f"{'wss' if _by_tls(service.environ) else 'ws'}://{host}:{service.environ['GATEWAY_PORT']}/ws"
            for service in self.processes("gateway")
        ]

    @property
    def page_url(self) -> str:
        """The first gateway's web page."""
        return f"http{self.ws_url.removeprefix('ws').removesuffix('ws')}"

    def processes(self, service: str) -> list[ServiceProcess]:
        """The replicas of a service."""
        return [process for process in self.services if process.service == service]

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Returns when all is ready; raises StackFailed or BrokerMissing. Call `stop` in any case."""
        if not self.nats_url:
            store = self.options.store or self.folder / "jetstream"
            store.mkdir(parents=True, exist_ok=True)
            self.broker = Broker(store, log=self.folder / "nats-server.log")
            self.broker.start()  # not in a thread: the server would die with it
            self.nats_url = self.broker.url
        self._plan()
        for service in self.services:
            await service.start()
        await self._set_up_streams()
        self._supervisors = [asyncio.create_task(self._supervise(service)) for service in self.services]
        if self.broker is not None and self.options.restart:
            self._supervisors.append(asyncio.create_task(self._supervise_broker(self.broker)))
        try:
            async with httpx2.AsyncClient(trust_env=False) as client, asyncio.TaskGroup() as group:
                for service in self.services:
                    group.create_task(self._until_ready(client, service))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    def _plan(self) -> None:
        options = self.options
        counts = {
            "crawler": options.crawlers,  # first: its browser takes longest
            "gateway": options.gateways,
            "transformer": options.transformers,
            "dedup": options.dedups,
        }
        for service, count in counts.items():
            for index in range(count):
                health_port = free_port()
                gateway_port = options.gateway_port if index == 0 and options.gateway_port else free_port()
                environ = {
                    **os.environ,
                    "NATS_URL": self.nats_url,
                    "REPLICA_NAME": f"{service}-{index + 1}",
                    "HEALTH_HOST": "127.0.0.1",
                    "HEALTH_PORT": str(health_port),
                    "GATEWAY_HOST": options.gateway_host,
                    "GATEWAY_PORT": str(gateway_port),
                    **({"SITE_URL": options.site_url} if options.site_url else {}),
                    **({"MEDIA_HOSTS": options.media_hosts} if options.media_hosts else {}),
                    **options.environ,
                    **options.environ_of.get(service, {}),
                }
                ready_url = f"http://127.0.0.1:{health_port}/readyz"
                if service == "gateway" and not _by_tls(environ):  # else whose certificate is not known here
                    ready_url = f"http://{_reachable(options.gateway_host)}:{gateway_port}/readyz"
                log = self.folder / f"{service}-{index + 1}.log"
                self.services.append(ServiceProcess(service, index, environ, ready_url, log))

    async def _set_up_streams(self) -> None:
        more = self.options.environ_of.get("streams", {})
        environ = {**os.environ, **self.options.environ, "NATS_URL": self.nats_url, **more}
        try:
            settings = from_environment(StreamSettings, environ)
            async with connect(settings, "streams") as bus:
                await set_up(bus, settings)
        except PinstreamError as error:
            raise StackFailed(f"the streams could not be set up: {error}") from error

    async def _until_ready(self, client: httpx2.AsyncClient, service: ServiceProcess) -> None:
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            if service.restarts >= 2 or (service.process and service.process.returncode and not self.options.restart):
                raise StackFailed(f"{service.name} does not start:\n{service.last_words()}")
            with suppress(httpx2.HTTPError):
                if (await client.get(service.ready_url, timeout=2)).status_code == 200:
                    return
            await asyncio.sleep(POLL_S)
        raise StackFailed(f"{service.name} was not ready within {READY_S:g} s:\n{service.last_words()}")

    async def ready(self) -> None:
        """Returns when every service says that it is ready."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            for service in self.services:
                await self._until_ready(client, service)

    async def _supervise(self, service: ServiceProcess) -> None:
        delay_s = RESTART_FIRST_S
        while True:
            started = time.monotonic()
            assert service.process is not None
            code = await service.process.wait()
            if self._stopping or not self.options.restart:
                return
            service.restarts += 1
            delay_s = RESTART_FIRST_S if time.monotonic() - started > STEADY_S else min(delay_s * 2, RESTART_MOST_S)
            self.options.say(f"{service.name} ended ({how_it_ended(code)}); it is started again in {delay_s:.1f} s")
            await asyncio.sleep(delay_s)
            await service.start()

    async def _supervise_broker(self, broker: Broker) -> None:
        while True:
            await asyncio.sleep(BROKER_POLL_S)
            if broker.process is not None and broker.process.poll() is not None and not self._stopping:
                self.options.say("the broker ended; it is started again from its store")
                broker.start()

    def kill(self, service: str, index: int = 0) -> None:
        """Ends a replica with SIGKILL, as a pod dies."""
        process = self.processes(service)[index].process
        assert process is not None, "not started"
        process.kill()

    async def stop(self) -> None:
        """Ends everything: gently, then by force; nothing is left, the browser's processes included."""
        self._stopping = True
        for task in self._supervisors:
            task.cancel()
        await asyncio.gather(*self._supervisors, return_exceptions=True)
        running = [
            service.process for service in self.services if service.process and service.process.returncode is None
        ]
        family = _family([process.pid for process in running])
        for process in running:
            with suppress(ProcessLookupError):
                tell_to_stop(process.pid)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await asyncio.gather(*(process.wait() for process in running))
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        await asyncio.gather(*(process.wait() for process in running))
        if self.broker is not None:
            await asyncio.to_thread(self.broker.stop)
        shutil.rmtree(self.folder, ignore_errors=True)


def _family(pids: list[int]) -> list[psutil.Process]:
    members: list[psutil.Process] = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            members += [process, *process.children(recursive=True)]
    return members


def _reachable(host: str) -> str:
    """Where one that listens on `host` is reached from here, as it stands in an address."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is compared, not listened on
    return f"[{host}]" if ":" in host else host
