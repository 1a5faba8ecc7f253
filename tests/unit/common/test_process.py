"""Signals and leashes, as they are on systems that have neither signal handlers in loops nor a parent's death told."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from libs.common.delivery import Delivery
from libs.common.process import LEASH, on_leash, on_stop_signals
from libs.common.suspects import _Asked

ROOT = Path(__file__).parents[3]
LEASHED = """
import asyncio
from libs.common.lifecycle import stop_on_signals

async def main():
    stop = stop_on_signals()
    print("ready", flush=True)
    await stop.wait()
    print("stopped", flush=True)

asyncio.run(main())
"""
AS_ON_WINDOWS = """
import sys
import asyncio
from libs.common import suspects
sys.platform = "win32"

async def handler(delivery):
    if delivery.body == b"bad":
        raise ValueError("no")

asyncio.run(suspects.serve_suspects(handler))
"""


def child(program: str, **environ: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def test_a_child_on_a_leash_stops_gently_when_its_parent_is_gone() -> None:
    with child(LEASHED, **{LEASH: "1"}) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.stdin.close()
        assert process.stdout.readline() == b"stopped\n"
        assert process.wait(10) == 0


async def test_no_leash_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LEASH, raising=False)
    stopped = asyncio.Event()
    on_leash(stopped.set)
    assert not stopped.is_set()


async def test_a_loop_without_signal_handlers_hears_of_signals_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise NotImplementedError

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(asyncio.get_running_loop(), "add_signal_handler", refuse)
    stopped = asyncio.Event()
    try:
        on_stop_signals(stopped.set)
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(10):
            await stopped.wait()
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def test_suspects_are_handled_where_a_loop_cannot_read_standard_input() -> None:
    def asked(number: int, body: bytes) -> bytes:
        delivery = Delivery("media.raw.s.i", body, {}, 1, 1, 1, 0.0, "")
        return msgspec.json.encode(_Asked(number, delivery)) + b"\n"

    with child(AS_ON_WINDOWS) as process:
        assert process.stdin is not None and process.stdout is not None
        assert msgspec.json.decode(process.stdout.readline())["kind"] == "ready"
        process.stdin.write(asked(1, b"good") + asked(2, b"bad"))
        process.stdin.flush()
        lines = [msgspec.json.decode(process.stdout.readline()) for _ in range(2)]
        verdicts = {line["number"]: line.get("kind", "done") for line in lines}
        assert verdicts == {1: "done", 2: "failed"}
        process.stdin.close()
        assert process.wait(10) == 0
