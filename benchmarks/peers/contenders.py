"""The peers as a user runs them: by their command, or as a library in a process that runs on."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import msgspec

from benchmarks.peers.environment import programs
from benchmarks.peers.finding import MEMORY_LIMIT_MB, Finding, counted, forget, measured, since
from libs.common.process import apart
from services.crawler.footprint import tree_of
from services.crawler.launch import find_executable
from tests.fake_pinterest import RunningSite

DRIVER = Path(__file__).with_name("driver.py")
ADDRESS = re.compile(r"https://v[^\s\"'<>|]+?\.(?:m3u8|mp4)")
PATIENCE_S = 180.0
LINE_BYTES = 2**26  # yt-dlp writes an entry a line
MOST = "100000"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: a topic or an address; `pace_s` is slept between requests to the site, 0 is the peer's own."""

    query: str = ""
    url: str = ""
    pace_s: float = 0.0
    first_only: bool = False  # it is ended when the first video has come
    patience_s: float = PATIENCE_S
    most_mb: float = MEMORY_LIMIT_MB


Command = Callable[[Task], list[str]]


def gallery_dl(task: Task) -> list[str]:
    """`-g` twice: with the addresses that it falls back on."""
    address = task.url or f"https://www.pinterest.com/search/pins/?q={quote(task.query)}"
    pace = ["--sleep-request", str(task.pace_s)] if task.pace_s else []
    return ["gallery-dl", "--config-ignore", "-g", "-g", *pace, address]


def pinterest_dl(task: Task) -> list[str]:
    """Its JSON, which comes at the end."""
    pace = ["--delay", str(task.pace_s)] if task.pace_s else []
    asked = ["scrape", task.url] if task.url else ["search", task.query]
    return ["pinterest-dl", *asked, "-n", MOST, "--json", *pace]


def yt_dlp(task: Task) -> list[str]:
    """A line of JSON for each video of a board; it knows no search."""
    pace = ["--sleep-requests", str(task.pace_s)] if task.pace_s else []
    return [
        "yt-dlp",
        "--ignore-config",
        "--compat-options",
        "no-certifi",
        "-j",
        "--ignore-no-formats-error",
        *pace,
        task.url,
    ]


def environ(site: RunningSite, home: str) -> dict[str, str]:
    """A peer's environment: the stand-in under the real names, and nothing of this machine's own proxies."""
    assert site.proxy and site.ca_file, "the stand-in runs without TLS"
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {
        **kept,
        "HOME": home,
        "HTTPS_PROXY": site.proxy,
        "https_proxy": site.proxy,
        "REQUESTS_CA_BUNDLE": site.ca_file,
        "SSL_CERT_FILE": site.ca_file,
        "CHROMIUM": find_executable(None, None),
        "PYTHONUNBUFFERED": "1",  # what is found is seen when it is, not when a buffer is full
    }


async def by_command(command: Command, site: RunningSite, task: Task, folder: Path | None = None) -> Finding:
    """A standing start: from the start of the process to its end. `folder` has the program, if not the peers' own."""
    folder = folder or programs()
    finding = Finding(load=os.getloadavg()[0])
    await forget(site)
    with tempfile.TemporaryDirectory(prefix="peer-") as home:
        name, *arguments = command(task)
        began = time.monotonic()
        process = await _start([str(folder / name), *arguments], site, home)
        assert process.stdout is not None

        async def read() -> None:
            assert process.stdout is not None
            async for line in process.stdout:
                finding.add(ADDRESS.findall(line.decode(errors="replace")), since(began))
                if task.first_only and finding.videos:
                    return
            finding.code = await process.wait()

        await _bounded(finding, process, read(), task, began)
        await _kill(process)
        finding.said = _words(Path(home))
        if not finding.ended and finding.code:
            finding.ended = "Traceback" if "Traceback (most recent call last)" in finding.said else "error"
    await counted(site, finding)
    return finding


class Driver:
    """A peer as a library: `async with Driver(NAME, site) as driver`; each task goes to the same process."""

    def __init__(self, name: str, site: RunningSite) -> None:
        self.name, self.site, self.folder = name, site, programs()
        self.began = time.monotonic()
        self._home = tempfile.TemporaryDirectory(prefix="peer-")
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self.began = time.monotonic()
        command = [str(self.folder / "python"), str(DRIVER), self.name]
        self._process = await _start(command, self.site, self._home.name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        await _kill(self._process)
        self._home.cleanup()

    async def run(self, task: Task, *, began: float | None = None) -> Finding:
        """One task; `began`: from when its time counts, if not from now (of a standing start, from `self.began`)."""
        process = self._process
        assert process is not None and process.stdin is not None
        finding = Finding(load=os.getloadavg()[0])
        home = Path(self._home.name)
        spoken = (home / "stderr").stat().st_size
        await forget(self.site)
        process.stdin.write(
            msgspec.json.encode({"query": task.query, "url": task.url or None, "pace_s": task.pace_s}) + b"\n"
        )
        began = time.monotonic() if began is None else began
        await _bounded(finding, process, self._answers(finding, task, began), task, began)
        finding.said = f"{finding.said} {_words(home, spoken)}".strip()
        await counted(self.site, finding)
        return finding

    async def _answers(self, finding: Finding, task: Task, began: float) -> None:
        assert self._process is not None and self._process.stdout is not None
        async for line in self._process.stdout:
            said: dict[str, Any] = json.loads(line)
            if "found" in said:
                finding.add(said["found"], said["at"] - began)
                if task.first_only and finding.videos:
                    return
            elif "end" in said:
                finding.ended = said["end"] and f"{said['module']}.{said['end']}"
                finding.said = said.get("message", "")
                return
        finding.ended = "died"


async def _start(command: list[str], site: RunningSite, home: str) -> asyncio.subprocess.Process:
    with (Path(home) / "stderr").open("wb") as words:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=words,
            cwd=home,
            env=environ(site, home),
            limit=LINE_BYTES,
            **apart(),
        )


async def _bounded(
    finding: Finding, process: asyncio.subprocess.Process, reading: Any, task: Task, began: float
) -> None:
    """Reads to the end; a process that takes too long or too much memory is killed with all its children."""
    reader = asyncio.ensure_future(reading)
    async with measured(finding, [process.pid], reader, task.most_mb):
        await asyncio.wait([reader], timeout=task.patience_s)
    finding.total_s = since(began)
    if not reader.done():
        finding.ended = "patience"
        reader.cancel()
    if finding.ended in ("patience", "memory"):
        with suppress(asyncio.CancelledError):
            await reader
        await _kill(process)
    else:
        reader.result()


async def _kill(process: asyncio.subprocess.Process) -> None:
    family = tree_of(process.pid)
    for member in family:
        with suppress(Exception):
            member.send_signal(signal.SIGKILL)
    await process.wait()


def _words(home: Path, spoken: int = 0) -> str:
    """The end of what it said since it had said so many bytes."""
    return (home / "stderr").read_bytes()[spoken:][-4000:].decode(errors="replace").strip()
