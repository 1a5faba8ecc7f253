"""What thousands of idle WebSockets and hundreds of sessions cost one gateway process, and what they wait.

`python -m benchmarks.bench_gateway_load` opens `--idle` connections at `--per-second`, lets them lie for `--lie-s`,
then begins `--sessions` searches over connections of their own, whose videos a feeder writes to the session logs as
dedup does: `steady`, one after the other; `pages`, 25 at a time as a site gives them; `surge`, a page for all sessions
at the same moment. Broker, gateway, feeder and both kinds of clients are processes of their own. Each client comes from
an address of its own (X-Forwarded-For), so that no limit of the gateway's is raised, and every limit is asked about.

Five times; in each run a bare echo of the same server comes first, with the same clients: its texts, of a frame's size,
go there and back. Lateness is from the moment at which the feeder hands a record to the broker to the frame at the
client.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Annotated, Any

import msgspec
import psutil
import typer

from benchmarks.bare_clients import BareClients, Opened, pages, steady, surge
from benchmarks.feeder import Feeder, Written, video
from benchmarks.results import AIM_MISSED, Cell, Results, gathered, load, results, save, table
from benchmarks.worker import Worker
from libs.client.broker import free_port, running_broker
from libs.common.bus import connect
from libs.common.frames import VideoFrame, encode_frame
from libs.common.process import die_with_parent
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, set_up
from services.gateway.open_files import raise_open_files

ROOT = Path(__file__).parents[1]
A_MINUTE = 50.0  # videos of each session
PAGE = 25
WARM_UP = 100  # connections before any is counted: they have the code loaded and the memory in its places
SETTLE_S = 2.0
ASKED_OF = {"connect_ms": 200, "kb": 40, "late_ms": 250}
ASKED, ECHO, GATEWAY = "asked for", "bare echo", "gateway"
PROXY = {"TRUSTED_PROXIES": "127.0.0.1", "ANONYMOUS": "yes"}  # for the clients' addresses; all else is the default

Plan = list[tuple[float, int]]


class Server:
    """A server process under test, at `port`."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.process = psutil.Process(pid)

    @property
    def cpu_s(self) -> float:
        """Used so far."""
        times = self.process.cpu_times()
        return times.user + times.system

    @property
    def kb(self) -> dict[str, float]:
        """Of memory."""
        memory = self.process.memory_full_info()
        return {"rss": memory.rss / 1000, "pss": memory.pss / 1000}


@contextmanager
def running(module: str, port: int, log: Path, *arguments: str, **environ: str) -> Iterator[Server]:
    """A Python module that serves at `port` meanwhile."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**os.environ, **environ},
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it makes one system call
        )
    try:
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.wait(30)


async def answers(port: int) -> None:
    """Returns when something listens there."""
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


def spread(seconds: list[float]) -> dict[str, float]:
    """In ms."""
    cuts = quantiles(seconds, n=100)
    return {name: round(1000 * at, 2) for name, at in (("p50", cuts[49]), ("p99", cuts[98]), ("most", max(seconds)))}


class Load:
    """What is asked of a server."""

    def __init__(self, idle: int, sessions: int, per_second: float, seconds: float, lie_s: float) -> None:
        self.idle, self.sessions = idle, sessions
        self.per_second, self.seconds, self.lie_s = per_second, seconds, lie_s

    def plans(self) -> dict[str, Plan]:
        """When who gets a video."""
        return {
            "steady": steady(self.sessions, A_MINUTE, self.seconds),
            "pages": pages(self.sessions, A_MINUTE, max(self.seconds, 60 * PAGE / A_MINUTE), PAGE),
            "surge": surge(self.sessions, PAGE),
        }

    async def connections(self, server: Server, idle: Worker) -> dict[str, Any]:
        """Opens them and lets them lie."""
        await idle.call("open", WARM_UP, self.per_second)
        await asyncio.sleep(SETTLE_S)
        memory, cpu_s = server.kb, server.cpu_s
        opened = Opened(*await idle.call("open", self.idle, self.per_second))
        cpu_us = 1e6 * (server.cpu_s - cpu_s) / self.idle
        await asyncio.sleep(SETTLE_S)
        lain_from, cpu_s = time.monotonic(), server.cpu_s
        await asyncio.sleep(self.lie_s)
        busy = (server.cpu_s - cpu_s) / (time.monotonic() - lain_from)
        kb = {kind: round((now - memory[kind]) / self.idle, 1) for kind, now in server.kb.items()}
        return {
            "connect_ms": spread(opened.took),
            "clients_late_ms": spread(opened.late),
            "cpu_us_each": round(cpu_us),
            "kb_each": kb,
            "cpu_while_idle": round(busy, 3),
        }

    async def echo(self, folder: Path) -> dict[str, Any]:
        """The figures of the bare echo."""
        port = free_port()
        size = len(encode_frame(VideoFrame(session_id="0" * 32, sequence=1000, video=video(0))))
        with (
            running("benchmarks.bare_echo", port, folder / "echo.log", str(port)) as server,
            Worker(BareClients, port) as idle,
            Worker(BareClients, port, 1_000_000) as streams,
        ):
            await answers(port)
            figures = await self.connections(server, idle)
            await streams.call("open", self.sessions, self.per_second)
            for name, plan in self.plans().items():
                cpu_s = server.cpu_s
                round_trips = await streams.call("echo", plan, size)
                figures[name] = {
                    "round_trip_ms": spread(round_trips),
                    "cpu_us_a_frame": round(1e6 * (server.cpu_s - cpu_s) / len(plan)),
                }
            return figures | {"lost": await idle.call("lost") + await streams.call("lost")}

    async def gateway(self, folder: Path) -> dict[str, Any]:
        """The figures of the gateway."""
        port = free_port()
        store = folder / "jetstream"
        store.mkdir()
        with running_broker(store) as broker:
            async with connect(Settings(nats_url=broker.url), "set up") as bus:
                await set_up(bus, StreamSettings())
            environ = {**PROXY, "NATS_URL": broker.url, "GATEWAY_PORT": str(port)}
            with (
                running("services.gateway", port, folder / "gateway.log", **environ) as server,
                Worker(BareClients, port) as idle,
                Worker(BareClients, port, 1_000_000) as streams,
                Worker(Feeder, broker.url) as feeder,
            ):
                await answers(port)
                figures = await self.connections(server, idle)
                await streams.call("open", self.sessions, self.per_second)
                sessions = await streams.call("search")
                for name, plan in self.plans().items():
                    cpu_s = server.cpu_s
                    written = [Written(*one) for one in await feeder.call("feed", sessions, plan)]
                    arrived = await streams.call("arrived", [one.id for one in written], 30.0)
                    late = [arrived[one.id] - one.sent for one in written if one.id in arrived]
                    after = [arrived[one.id] - one.stored for one in written if one.id in arrived]
                    figures[name] = {
                        "frames": len(written),
                        "missing": len(written) - len(late),
                        "late_ms": spread(late),
                        "after_the_ack_ms": spread(after),
                        "cpu_us_a_frame": round(1e6 * (server.cpu_s - cpu_s) / len(plan)),
                    }
                return figures | {"lost": await idle.call("lost") + await streams.call("lost")}


async def measure(asked: Load) -> dict[str, Any]:
    """Runs both and returns the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {"asked": ASKED_OF, "echo": await asked.echo(folder), "gateway": await asked.gateway(folder)}


def cells() -> list[Cell]:
    """The gateway beside the bare echo; what is asked for is a row of its own."""
    found = [
        Cell(ASKED, "connect, p99", "ms", "asked.connect_ms"),
        Cell(ASKED, "memory of an idle one", "kB", "asked.kb"),
        Cell(ASKED, "steady, p99", "ms", "asked.late_ms"),
        Cell(ASKED, "pages, p99", "ms", "asked.late_ms"),
    ]
    for who, of, late in ((ECHO, "echo", "round_trip_ms"), (GATEWAY, "gateway", "late_ms")):
        against = ECHO if who == GATEWAY else ""
        found += [
            Cell(who, "connect, p50", "ms", f"{of}.connect_ms.p50", against),
            Cell(who, "connect, p99", "ms", f"{of}.connect_ms.p99", against),
            Cell(who, "CPU to connect", "us", f"{of}.cpu_us_each", against),
            Cell(who, "memory of an idle one", "kB", f"{of}.kb_each.pss", against),
        ]
        for plan in ("steady", "pages", "surge"):
            found += [
                Cell(who, f"{plan}, p50", "ms", f"{of}.{plan}.{late}.p50", against),
                Cell(who, f"{plan}, p99", "ms", f"{of}.{plan}.{late}.p99", against),
                Cell(who, f"{plan}, CPU", "us a frame", f"{of}.{plan}.cpu_us_a_frame", against),
            ]
    return found


def main(
    idle: Annotated[int, typer.Option(help="idle connections")] = 5000,
    sessions: Annotated[int, typer.Option(help="that stream")] = 200,
    per_second: Annotated[float, typer.Option(help="connections that are opened a second")] = 250.0,
    seconds: Annotated[float, typer.Option(help="for how long videos come")] = 60.0,
    lie_s: Annotated[float, typer.Option(help="how long the idle ones lie before their memory is told")] = 25.0,
    runs: Annotated[int, typer.Option(help="of both")] = 5,
    quick: Annotated[bool, typer.Option(help="a first look; nothing is kept")] = False,
) -> None:
    """Measure, print and keep; exit 3 where an aim is missed in the median, 1 where a frame or a connection is lost."""
    raise_open_files()
    asked = Load(200, 20, per_second, 5.0, 2.0) if quick else Load(idle, sessions, per_second, seconds, lie_s)
    told, loads = [], []
    for _ in range(1 if quick else runs):
        loads.append(load())
        told.append(asyncio.run(measure(asked)))
        typer.echo(msgspec.json.encode(told[-1]).decode(), err=True)
    detail = {"idle": asked.idle, "sessions": asked.sessions, "settings": PROXY, "runs": told}
    command = " ".join(["python -m benchmarks.bench_gateway_load", *sys.argv[1:]])
    found = results(
        "gateway-load",
        command,
        gathered(told, cells(), loads),
        packages=["nats-py", "uvicorn", "uvloop"],
        detail=detail,
    )
    sys.stdout.write(table(found))
    if not quick:
        save(found)
    sys.exit(1 if any(map(harmed, told)) else 0 if held(found) else AIM_MISSED)


def harmed(told: dict[str, Any]) -> bool:
    """Whether a connection or a frame was lost."""
    gateway = told["gateway"]
    return bool(gateway["lost"]) or any(gateway[one]["missing"] for one in ("steady", "pages"))


def held(found: Results) -> bool:
    """Whether the medians are within what is asked for."""
    medians = {(one.of, one.name): one.median or 0.0 for one in found.figures}
    return all(medians[GATEWAY, name] <= most for (of, name), most in medians.items() if of == ASKED)


if __name__ == "__main__":
    typer.run(main)
