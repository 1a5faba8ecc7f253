"""The pipeline beside a bare relay of four hops: from the crawler's emission to the frame at the client.

`python -m benchmarks.bench_pipeline` runs both on this machine, each with a broker of its own and a process for each
role, and gives them by turns the same load: distinct videos that were resolved before, so that messages are all the
work there is. `latency`: one session, ten videos every tenth of a second. `throughput`: sessions at once, each as fast
as its messages are acknowledged. The pipeline has its telemetry on, traces sent to a receiver that drops them; the
relay has none. The clients are the same, and time is that of one clock, from before an item is published.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

import nats
import psutil
import typer
import websockets
from nats.aio.client import Client as NatsClient

from benchmarks.bare_relay import BEGIN, READY
from benchmarks.bench_tracing import IDLE, SETTLING_S, UNLIMITED, receiver
from benchmarks.emitter import EMITTED, Corpus
from benchmarks.results import AIM_MISSED, HERE, RESULTS, Figure, figure, load, results, save
from benchmarks.seeds import CorpusOption, seed
from libs.client.broker import Broker, free_port
from libs.client.local import LocalOptions, LocalStack
from libs.common.bus import connect
from libs.common.process import die_with_parent
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, set_up
from tests.fake_pinterest import RunningSite, running_site
from tests.wait import wait_until

ROLES = ("emitter", "raw", "direct", "frames")
PIPELINE, BEFORE = "pipeline", "pipeline before"
RESOLVED = {"CACHE_SIZE": "20000", "UNSETTLED_TTL_S": "3600"}  # so that every video of all loads stays resolved
AIM_THROUGHPUT, AIM_LATENCY = 0.8, 1.25


class Run(NamedTuple):
    """What one system made of a load: seconds from emission to frame by item; items a second; ms of processor an
    item, by part."""

    took_s: list[float]
    items_s: float
    cpu_ms: dict[str, float]

    def milliseconds(self, quantile: float) -> float:
        """Of a latency."""
        return 1000 * sorted(self.took_s)[min(len(self.took_s) - 1, int(quantile * len(self.took_s)))]


class System:
    """One of them: where its clients connect, what they say first, and the processes whose time it takes."""

    bare = False

    def __init__(self, name: str, folder: Path, ws_url: str, parts: dict[str, int]) -> None:
        self.name, self.folder, self.ws_url = name, folder, ws_url
        self.parts = {part: psutil.Process(pid) for part, pid in parts.items()}

    async def begin(self, socket: websockets.ClientConnection, corpus: Corpus) -> str:
        """Begins a session; returns its id."""
        asked = {"operation": "initiate_extraction", "parameters": {"search_query": corpus.query, "result_limit": 5000}}
        await socket.send(json.dumps(asked))
        return str(json.loads(await socket.recv())["session_id"])

    async def load(self, corpora: list[Corpus]) -> Run:
        """These sessions at once."""
        before = self._cpu_s()
        found = await asyncio.gather(*map(self._session, corpora))
        took = {part: self._cpu_s()[part] - before[part] for part in before}
        latencies = [each for session in found for each in session[2]]
        seconds = max(last for _, last, _ in found) - min(first for first, _, _ in found)
        cpu_ms = {part: 1000 * spent / len(latencies) for part, spent in took.items()}
        return Run(latencies, len(latencies) / seconds, cpu_ms)

    async def _session(self, corpus: Corpus) -> tuple[float, float, list[float]]:
        """When the first item was emitted and the last came, and what each took."""
        came: list[tuple[float, str]] = []
        async with websockets.connect(self.ws_url, compression=None, max_size=None, ping_interval=None) as socket:
            session = await self.begin(socket, corpus)
            while len(came) < corpus.videos:
                text = str(await socket.recv())
                if '"signature":"' in text or '"event":"video"' in text:
                    came.append((time.monotonic(), text))
            if not self.bare:  # to the end
                while '"event":"completed"' not in text:
                    text = str(await socket.recv())
        file = self.folder / f"{session}{EMITTED}"
        await wait_until(file.exists, "the emitter has written its times")
        emitted: dict[str, float] = json.loads(file.read_text())
        mark = '"signature":"' if self.bare else '"video":{"id":"'
        at = {text.partition(mark)[2][:32]: when for when, text in came}
        took = [at[signature] - when for signature, when in emitted.items()]
        return min(emitted.values()), max(at.values()), took

    async def settled(self) -> None:
        """Returns when it is idle: after a session its raw media are removed one by one."""
        before = sum(self._cpu_s().values())
        while True:
            await asyncio.sleep(SETTLING_S)
            now = sum(self._cpu_s().values())
            if now - before < IDLE * SETTLING_S:
                return
            before = now

    def _cpu_s(self) -> dict[str, float]:
        return {part: sum(process.cpu_times()[:2]) for part, process in self.parts.items()}


class Relay(System):
    """The bare one, whose clients choose their session's id."""

    bare = True

    def __init__(self, name: str, folder: Path, ws_url: str, parts: dict[str, int], client: NatsClient) -> None:
        super().__init__(name, folder, ws_url, parts)
        self.client = client

    async def begin(self, socket: websockets.ClientConnection, corpus: Corpus) -> str:
        """Likewise."""
        session = secrets.token_hex(16)
        await socket.send(session)
        await socket.recv()
        await self.client.publish(BEGIN, json.dumps({"session": session, "query": corpus.query}).encode())
        return session


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """The files of a revision, meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", revision], cwd=HERE.parent, check=True, stdout=PIPE)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield Path(folder)


@asynccontextmanager
async def pipeline(
    site: RunningSite, folder: Path, name: str = PIPELINE, code: Path | None = None
) -> AsyncIterator[System]:
    """The services as they are by default, but for limits and that no video is forgotten, with telemetry on, and an
    emitter in the crawler's place; by `code`, or ours."""
    async with AsyncExitStack() as running:
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": await running.enter_async_context(receiver())}
        environ = {**UNLIMITED, **RESOLVED, **told}
        if code is not None:
            environ |= {"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}
        media = urlsplit(site.origin).netloc
        options = LocalOptions(site_url=site.origin, media_hosts=media, crawlers=0, environ=environ)
        stack = await running.enter_async_context(LocalStack(options))
        given = {**os.environ, **environ, "NATS_URL": stack.nats_url, "SITE_URL": site.origin, "HEALTH_PORT": "0"}
        given |= {"EMITTED_FOLDER": str(folder), "LOG_LEVEL": "WARNING"}
        command = [sys.executable, "-m", "benchmarks.emitter"]
        crawler = await asyncio.create_subprocess_exec(*command, env=given, preexec_fn=die_with_parent)
        running.push_async_callback(_ended, crawler)
        assert stack.broker is not None and stack.broker.process is not None
        parts = {service.service: service.pid for service in stack.services}
        parts |= {"crawler": crawler.pid, "broker": stack.broker.process.pid}
        yield System(name, folder, stack.ws_url, parts)


@asynccontextmanager
async def bare(form: str, site: RunningSite, folder: Path) -> AsyncIterator[Relay]:
    """The relay."""
    async with AsyncExitStack() as running:
        broker = Broker(folder)
        running.callback(broker.stop)
        broker.start()
        async with connect(Settings(nats_url=broker.url), "streams") as bus:
            await set_up(bus, StreamSettings())
        client = await nats.connect(broker.url)
        running.push_async_callback(client.close)
        ready = await client.subscribe(f"{READY}.*")
        await client.flush()
        port = free_port()
        options = json.dumps({"port": port, "site": site.origin, "folder": str(folder)})
        parts: dict[str, int] = {}
        for role in ROLES:
            command = [sys.executable, "-m", "benchmarks.bare_relay", role, broker.url, form, options]
            process = await asyncio.create_subprocess_exec(*command, preexec_fn=die_with_parent)
            running.push_async_callback(_ended, process)
            parts[role] = process.pid
        for _ in ROLES:
            await ready.next_msg(60)
        assert broker.process is not None
        parts["broker"] = broker.process.pid
        yield Relay(f"bare relay, {form}", folder, f"ws://127.0.0.1:{port}", parts, client)


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    await process.wait()


MEASURES: tuple[tuple[str, str, str, Callable[[Run], float]], ...] = (
    ("latency p50", "ms", "latency", lambda run: run.milliseconds(0.5)),
    ("latency p99", "ms", "latency", lambda run: run.milliseconds(0.99)),
    ("throughput", "videos/s", "throughput", lambda run: run.items_s),
    ("CPU", "ms a video", "throughput", lambda run: sum(run.cpu_ms.values())),
)


class Shape(NamedTuple):
    """Of the loads: videos of the one session whose latency counts; sessions at once, and videos of each."""

    paced: int
    sessions: int
    videos: int
    corpus: str

    def loads(self) -> dict[str, list[Corpus]]:
        """By what is measured."""
        return {
            "latency": [Corpus(self.paced, 10, 0.1, f"seed:{seed(self.corpus, 0)}")],
            "throughput": [
                Corpus(self.videos, 50, 0.0, f"seed:{seed(self.corpus, number)}") for number in range(self.sessions)
            ],
        }


async def measure(pairs: int, shape: Shape, forms: list[str], before: str, within_s: float) -> list[Figure]:
    """All, by turns."""
    runs: dict[tuple[str, str], list[Run]] = {}
    loads: dict[tuple[str, str], list[float]] = {}
    async with AsyncExitStack() as running:
        site = running.enter_context(running_site(latency_ms=0, cdn_latency_ms=0))

        def folder() -> Path:
            return Path(running.enter_context(tempfile.TemporaryDirectory()))

        systems: list[System] = [await running.enter_async_context(pipeline(site, folder()))]
        if before:
            code = running.enter_context(checkout(before))
            systems.append(await running.enter_async_context(pipeline(site, folder(), BEFORE, code)))
        for form in forms:
            systems.append(await running.enter_async_context(bare(form, site, folder())))
        end_at = time.monotonic() + within_s
        for turn in range(pairs + 1):  # the first, in which each video is resolved, does not count
            if turn > 1 and time.monotonic() > end_at:
                break
            for what, corpora in shape.loads().items():
                for one in systems if turn % 2 else reversed(systems):
                    for each in systems:
                        await each.settled()
                    busy = load()
                    run = await one.load(corpora)
                    if turn:
                        runs.setdefault((one.name, what), []).append(run)
                        loads.setdefault((one.name, what), []).append(busy)
                        _tell(one.name, what, run)
    names = [one.name for one in systems]
    return [each for name in names[1:] for each in _beside(name, runs, loads)] + _by_part(runs)


def _tell(name: str, what: str, run: Run) -> None:
    cpu = ", ".join(f"{part} {ms:.3f}" for part, ms in run.cpu_ms.items())
    took = f"p50 {run.milliseconds(0.5):.2f} ms, p99 {run.milliseconds(0.99):.2f} ms"
    typer.echo(f"{what:10} {name:18} {took}, {run.items_s:.0f} a second; ms of CPU a video: {cpu}", err=True)


def _beside(
    other: str, runs: dict[tuple[str, str], list[Run]], loads: dict[tuple[str, str], list[float]]
) -> list[Figure]:
    """Those of another system, and of the pipeline beside it."""
    found: list[Figure] = []
    for name, unit, what, of in MEASURES:
        base = figure(other, name, unit, [of(run) for run in runs[other, what]], loads=loads[other, what])
        mine = [of(run) for run in runs[PIPELINE, what]]
        found += [base, figure(f"{PIPELINE}, to {other}", name, unit, mine, loads=loads[PIPELINE, what], against=base)]
    return found


def _by_part(runs: dict[tuple[str, str], list[Run]]) -> list[Figure]:
    """The pipeline's CPU by service; beside what it was before, where that was measured."""
    found: list[Figure] = []
    for part in runs[PIPELINE, "throughput"][0].cpu_ms:
        name, was = f"CPU of {part}", None
        if (BEFORE, "throughput") in runs:
            was = figure(BEFORE, name, "ms a video", [run.cpu_ms[part] for run in runs[BEFORE, "throughput"]])
            found.append(was)
        mine = [run.cpu_ms[part] for run in runs[PIPELINE, "throughput"]]
        found.append(figure(PIPELINE, name, "ms a video", mine, against=was))
    return found


def main(
    pairs: Annotated[int, typer.Option(help="how often all are measured")] = 5,
    paced: Annotated[int, typer.Option(help="videos of the session whose latency counts")] = 500,
    sessions: Annotated[int, typer.Option(help="at once, for the throughput")] = 10,
    videos: Annotated[int, typer.Option(help="of each of these")] = 300,
    form: Annotated[list[str] | None, typer.Option(help="of the relay: plain, moved; both by default")] = None,
    before: Annotated[str, typer.Option(help="a revision with this benchmark, to measure too")] = "",
    within_s: Annotated[float, typer.Option(help="no pair is begun after so many seconds, but for the first")] = 1800,
    quick: Annotated[bool, typer.Option(help="a first look; nothing is kept")] = False,
    name: Annotated[str, typer.Option(help="of the file in benchmarks/results")] = "pipeline",
    corpus: CorpusOption = "",
) -> None:
    """Prints each run, keeps the figures; exit 3 where an aim is missed."""
    shape = Shape(200, 4, 100, corpus) if quick else Shape(paced, sessions, videos, corpus)
    figures = asyncio.run(
        measure(2 if quick else pairs, shape, ["plain", "moved"] if form is None else form, before, within_s)
    )
    if not quick:
        found = results(
            name,
            " ".join(["python -m benchmarks.bench_pipeline", *sys.argv[1:]]),
            figures,
            packages=["nats-py", "uvloop"],
        )
        typer.echo(save(found, RESULTS))
    missed = [one for one in figures if one.ratio is not None and not _reached(one)]
    for one in figures:
        if one.ratio is not None:
            typer.echo(f"{one.name}: {one.ratio:.2f} of {one.against}")
    raise typer.Exit(AIM_MISSED if missed else 0)


def _reached(one: Figure) -> bool:
    """Of what is asked beside the plain relay; the moved one is there to be looked at."""
    assert one.ratio is not None
    if not (one.against or "").endswith("plain"):
        return True
    if one.name == "throughput":
        return one.ratio >= AIM_THROUGHPUT
    return not one.name.startswith("latency") or one.ratio <= AIM_LATENCY


if __name__ == "__main__":
    typer.run(main)
