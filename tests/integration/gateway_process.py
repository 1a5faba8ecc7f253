"""Gateways as processes of their own, and clients that read as slowly as a test wants."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
import psutil
from websockets.asyncio.client import ClientConnection, connect

from libs.client.broker import free_port
from libs.common import subjects
from libs.common.errors import AlreadyExists
from libs.common.messages import CrawledRecord, Kind, Pin, Reason, Video, VideoRecord
from libs.common.session_log import SessionLog
from tests.wait import POLL_S, wait_until

ROOT = Path(__file__).parents[2]
IN_FLIGHT = 32
MB = 1024 * 1024


class GatewayProcess:
    """`async with GatewayProcess(nats_url, folder) as gateway`; further settings as keywords, in small letters."""

    def __init__(self, nats_url: str, folder: Path, **settings: object) -> None:
        self.command: tuple[str, ...] = (sys.executable, "-m", "services.gateway")
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"ws://{self.address}/ws"
        self.output = folder / f"gateway-{self.port}.log"
        given = {name.upper(): str(value) for name, value in settings.items()}
        self.environ = {**os.environ, "NATS_URL": nats_url, "GATEWAY_PORT": str(self.port), **given}
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        with self.output.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *self.command, cwd=ROOT, env=self.environ, stdout=output, stderr=output
            )
        await wait_until(lambda: '"listening"' in self.said, "the gateway listens", timeout_s=30)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        await self.ended()

    @property
    def said(self) -> str:
        """Its log."""
        return self.output.read_text()

    @property
    def resident_bytes(self) -> int:
        """Of memory."""
        assert self.process is not None
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @property
    def clients(self) -> set[int]:
        """The ports of those that it holds a connection to."""
        assert self.process is not None
        return {one.raddr.port for one in psutil.Process(self.process.pid).net_connections() if one.raddr}

    def terminate(self) -> None:
        """SIGTERM."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, where it still runs."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.kill()

    async def ended(self) -> int:
        """The exit code."""
        assert self.process is not None
        return await self.process.wait()

    async def readiness(self) -> tuple[int, dict[str, bool]]:
        """The status of /readyz and its checks."""
        async with httpx2.AsyncClient(base_url=f"http://{self.address}", trust_env=False) as client:
            answer = await client.get("/readyz")
            checks: dict[str, bool] = answer.json()
            return answer.status_code, checks

    async def ready(self, expected: bool = True) -> None:
        """Returns when it is, or when it is not."""
        end = time.monotonic() + 30
        while ((await self.readiness())[0] == 200) is not expected:
            assert time.monotonic() < end, f"{self.address} did not become {'' if expected else 'un'}ready"
            await asyncio.sleep(POLL_S)


class Peak:
    """The most memory that a gateway takes meanwhile, over what it took before."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.before = self.most = gateway.resident_bytes

    async def __aenter__(self) -> Peak:
        self.task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        print(f"memory: {self.before / MB:.0f} MB, at most {self.growth / MB:.1f} MB more")

    async def _watch(self) -> None:
        while True:
            self.most = max(self.most, self.gateway.resident_bytes)
            await asyncio.sleep(0.02)

    @property
    def growth(self) -> int:
        return self.most - self.before


def slow_client(url: str) -> connect:
    """A connection that holds next to nothing beside what it has been asked for."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    parts = urlsplit(url)
    sock.connect((parts.hostname, parts.port))
    return connect(url, sock=sock, max_queue=1, ping_interval=None, max_size=None, close_timeout=1, compression=None)


async def receive(client: ClientConnection, timeout_s: float = 20) -> dict[str, Any]:
    """The next frame."""
    async with asyncio.timeout(timeout_s):
        frame: dict[str, Any] = json.loads(await client.recv())
        return frame


async def receive_event(client: ClientConnection, event: str, timeout_s: float = 20) -> dict[str, Any]:
    """The next frame of that kind."""
    while True:
        frame = await receive(client, timeout_s)
        if frame["event"] == event:
            return frame


async def to_completed(client: ClientConnection) -> list[dict[str, Any]]:
    """All frames, `completed` the last."""
    frames = [await receive(client)]
    while frames[-1]["event"] != "completed":
        frames.append(await receive(client))
    return frames


async def ask(client: ClientConnection, operation: str, **parameters: Any) -> None:
    """Sends an operation."""
    await client.send(json.dumps({"operation": operation, "parameters": parameters}))


async def begun(client: ClientConnection, query: str = "ceramic glaze") -> str:
    """The id of a session that was begun just now."""
    await ask(client, "initiate_extraction", search_query=query)
    return str((await receive_event(client, "accepted"))["session_id"])


async def give(log: SessionLog, session: str, n: int, padding: int = 0) -> int:
    """What dedup writes for the n-th video; `padding` is its size in bytes, about."""
    pin = Pin(id=str(n), title="x" * padding)
    video = Video(id=f"{n:032x}", url=f"https://v1.pinimg.com/{n}.mp4", kind=Kind.MP4, verified=True, pin=pin)
    try:
        return await log.create(session, subjects.VIDEO, VideoRecord(item=f"{n}-0", video=video), video.id)
    except AlreadyExists:  # the acknowledgement came too late, on a busy machine
        stored = await log.get(session, subjects.VIDEO, video.id)
        assert stored is not None
        return stored.sequence


async def give_many(log: SessionLog, session: str, numbers: range, padding: int) -> list[int]:
    """Likewise; their sequences, in order."""
    room = asyncio.Semaphore(IN_FLIGHT)

    async def one(n: int) -> int:
        async with room:
            return await give(log, session, n, padding)

    return sorted(await asyncio.gather(*(one(n) for n in numbers)))


async def finish(log: SessionLog, session: str, items: int, reason: Reason = Reason.LIMIT) -> int:
    """What the crawler writes at the end."""
    return await log.create(session, subjects.CRAWLED, CrawledRecord(reason=reason, items=items))
