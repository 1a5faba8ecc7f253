"""Starts services by fork, from a process that has imported them: a start costs some 40 ms of CPU instead of 700.

They are processes of their own, in sessions of their own, that can be killed, stopped and waited for. The nursery reads
a Start a line and writes a Started, later an Ended a line; its children die with it, as it does with its parent.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import runpy
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from libs.common.process import die_with_parent

POLL_S = 0.02
LINE_BYTES = 1 << 20


class Start(msgspec.Struct, frozen=True):
    """Run `module` as `python -m` would, with that environment, its output appended to `log`."""

    module: str
    environ: dict[str, str]
    log: str


class Said(msgspec.Struct, frozen=True):
    """What the nursery says: a process began (no code), or ended with a code, negative for a signal."""

    pid: int
    code: int | None = None


class Child:
    """A process that the nursery started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def signal(self, number: signal.Signals) -> bool:
        """Sends a signal; returns whether it was there to receive it."""
        if self.ended.done():
            return False
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
            return True
        return False


class Nursery:
    """`async with Nursery([...modules...]) as nursery`."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.modules = modules
        self._process: asyncio.subprocess.Process | None = None
        self._children: dict[int, Child] = {}
        self._starting: asyncio.Queue[Child] = asyncio.Queue()
        self._one = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.chaos.nursery",
            *self.modules,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            start_new_session=True,
            preexec_fn=die_with_parent,
            env=environ,
        )
        self._reading = asyncio.create_task(self._read(), name="nursery")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._reading is not None
        for child in self._children.values():
            child.signal(signal.SIGKILL)
        with suppress(ProcessLookupError):
            self._process.terminate()
        await self._process.wait()
        await self._reading

    async def start(self, module: str, environ: dict[str, str], log: Path) -> Child:
        """Starts a process; returns when it exists."""
        assert self._process is not None
        assert self._process.stdin is not None
        async with self._one:
            self._process.stdin.write(msgspec.json.encode(Start(module, environ, str(log))) + b"\n")
            return await self._starting.get()

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = msgspec.json.decode(line, type=Said)
            if said.code is None:
                child = self._children[said.pid] = Child(said.pid)
                self._starting.put_nowait(child)
            else:
                self._children.pop(said.pid).ended.set_result(said.code)
        for child in self._children.values():
            if not child.ended.done():
                child.ended.set_result(-signal.SIGKILL)


def _serve(modules: Sequence[str]) -> None:
    for module in modules:
        name = f"{module}.__main__" if hasattr(importlib.import_module(module), "__path__") else module
        importlib.import_module(name)
        del sys.modules[name]  # it is to be run anew
    buffer = b""
    while True:
        readable, _, _ = select.select([0], [], [], POLL_S)
        if readable:
            read = os.read(0, LINE_BYTES)
            if not read:
                return
            *lines, buffer = (buffer + read).split(b"\n")
            for line in lines:
                _fork(msgspec.json.decode(line, type=Start))
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                _say(Said(ended[0], os.waitstatus_to_exitcode(ended[1])))


def _say(said: Said) -> None:
    os.write(1, msgspec.json.encode(said) + b"\n")


def _fork(start: Start) -> None:
    pid = os.fork()
    if pid:
        _say(Said(pid))
        return
    os.setsid()
    die_with_parent(signal.SIGKILL)  # it may be stopped then
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(start.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(start.environ)
    sys.argv = [start.module]
    code: object = 1
    try:
        runpy.run_module(start.module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _serve(sys.argv[1:])
