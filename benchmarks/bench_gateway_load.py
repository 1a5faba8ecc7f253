"""What thousands of idle WebSockets and hundreds of sessions cost one gateway process, and what they wait.

`python -m benchmarks.bench_gateway_load` opens `--idle` connections at `--per-second`, lets them lie for `--lie-s`,
then begins `--sessions` searches over connections of their own, whose videos a feeder writes to the session logs as
dedup does: `steady`, one after the other; `pages`, 25 at a time as a site gives them; `surge`, a page for all sessions
at the same moment. Broker, gateway, feeder and both kinds of clients are processes of their own. Each client comes from
an address of its own (X-Forwarded-For), so that no limit of the gateway's is raised, and every limit is asked about.

A bare echo of the same server comes first, with the same clients: its texts, of a frame's size, go there and back.
Lateness is from the moment at which the feeder hands a record to the broker to the frame at the client.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import Annotated, Any

import psutil
import typer

from benchmarks.bare_clients import BareClients, Opened, pages, steady, surge
from benchmarks.feeder import Feeder, Written, video
from benchmarks.results import AIM_MISSED, RESULTS
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
ASKED_CONNECT_MS, AIMED_CONNECT_MS, ASKED_KB, ASKED_LATE_MS = 200, 50, 40, 250
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


async def measure(load: Load) -> dict[str, Any]:
    """Runs both and returns the figures."""
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        echo = await load.echo(folder)
        gateway = await load.gateway(folder)
    return {
        "idle": load.idle,
        "sessions": load.sessions,
        "connections_a_second": load.per_second,
        "seconds": load.seconds,
        "settings": PROXY,
        "echo": echo,
        "gateway": gateway,
        "gateway_over_echo": {
            "connect_p99": round(gateway["connect_ms"]["p99"] / echo["connect_ms"]["p99"], 1),
            "connect_cpu": round(gateway["cpu_us_each"] / echo["cpu_us_each"], 1),
            "kb_each": round(gateway["kb_each"]["pss"] / echo["kb_each"]["pss"], 1),
            "late_p99_steady": round(gateway["steady"]["late_ms"]["p99"] / echo["steady"]["round_trip_ms"]["p99"], 1),
        },
        "over_asked": {
            "connect_p99": round(gateway["connect_ms"]["p99"] / ASKED_CONNECT_MS, 2),
            "connect_p99_over_the_aim": round(gateway["connect_ms"]["p99"] / AIMED_CONNECT_MS, 2),
            "kb_each": round(gateway["kb_each"]["pss"] / ASKED_KB, 2),
            "late_p99_steady": round(gateway["steady"]["late_ms"]["p99"] / ASKED_LATE_MS, 2),
            "late_p99_pages": round(gateway["pages"]["late_ms"]["p99"] / ASKED_LATE_MS, 2),
            "late_p99_surge": round(gateway["surge"]["late_ms"]["p99"] / ASKED_LATE_MS, 2),
        },
        "machine": {
            "processors": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
            "load_before": round(before, 2),
            "load_after": round(os.getloadavg()[0], 2),
        },
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def main(
    idle: Annotated[int, typer.Option(help="idle connections")] = 5000,
    sessions: Annotated[int, typer.Option(help="that stream")] = 200,
    per_second: Annotated[float, typer.Option(help="connections that are opened a second")] = 250.0,
    seconds: Annotated[float, typer.Option(help="for how long videos come")] = 60.0,
    lie_s: Annotated[float, typer.Option(help="how long the idle ones lie before their memory is told")] = 25.0,
    out: Annotated[Path, typer.Option(help="folder of results")] = RESULTS,
    save: Annotated[str, typer.Option(help="name of the result")] = "gateway_load",
) -> None:
    """Measure, print and keep."""
    raise_open_files()
    figures = asyncio.run(measure(Load(idle, sessions, per_second, seconds, lie_s)))
    text = json.dumps(figures, indent=2)
    sys.stdout.write(text + "\n")
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{save}.json").write_text(text + "\n")
    held = all(figures["over_asked"][name] <= 1 for name in ("connect_p99", "kb_each", "late_p99_steady"))
    unharmed = not (
        figures["gateway"]["lost"] or any(figures["gateway"][one]["missing"] for one in ("steady", "pages"))
    )
    sys.exit(1 if not unharmed else 0 if held else AIM_MISSED)


if __name__ == "__main__":
    typer.run(main)
