"""The stand-in in a process of its own, for tests that are not asynchronous or must not share a loop with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from libs.common.process import die_with_parent

_ROOT = Path(__file__).parents[2]
_STOP_S = 10


class RunningSite(Struct, frozen=True):
    origin: str
    tls_port: int | None
    proxy: str | None
    ca_file: str | None
    pid: int


@contextmanager
def running_site(
    *, port: int = 0, latency_ms: int = 0, cdn_latency_ms: int = 0, tls: bool = False
) -> Iterator[RunningSite]:
    command = [sys.executable, "-m", "tests.fake_pinterest", f"--port={port}"]
    command += [f"--latency-ms={latency_ms}", f"--cdn-latency-ms={cdn_latency_ms}"] + ["--tls"] * tls
    with subprocess.Popen(
        command,
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - it makes one system call
    ) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the stand-in did not start, exit status {process.wait(_STOP_S)}")
            yield RunningSite(**json.loads(line), pid=process.pid)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
