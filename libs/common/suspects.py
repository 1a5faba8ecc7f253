"""The process that handles suspects: its side, `serve_suspects`, and its parent's, `Child`.

They speak by the child's standard input and output, one JSON object a line: a delivery with a number, and the verdict
on that number.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Self

import msgspec
import structlog
from opentelemetry.context import attach

from libs.common.delivery import Delivery
from libs.common.errors import (
    AlreadyExists,
    BrokerUnavailable,
    Fenced,
    MalformedMessage,
    NewerVersion,
    PinstreamError,
    PublishRefused,
    SessionCancelled,
    StreamMissing,
    Unsendable,
)
from libs.common.exit_codes import EX_UNAVAILABLE
from libs.common.handling import Handler, Superseded
from libs.common.process import die_with_parent, how_it_ended
from libs.common.settings import Settings, environment_of
from libs.common.tasks import end
from libs.common.telemetry import extract

STILL_S = 15.0  # sooner than a service: whoever spins here is most likely the one that is looked for
START_S = 30.0
STOP_S = 2.0
LINE_BYTES = 16 * 1024 * 1024  # a message of the broker's usual megabyte, headers and base64 included, many times over


log = structlog.get_logger()


class SuspectFailed(PinstreamError):
    """The message ended the process that handled it alone, or its handler failed."""


class ChildDied(PinstreamError):
    """The process ended, perhaps of another message."""


class _Asked(msgspec.Struct):
    number: int
    delivery: Delivery


class _Verdict(msgspec.Struct, omit_defaults=True):
    """What the child says of a message; `kind` is `done` or the name of an exception."""

    number: int = -1  # of the line that says that it is ready
    kind: str = "done"
    message: str = ""


_KINDS: dict[str, type[PinstreamError]] = {
    kind.__name__: kind
    for kind in (
        NewerVersion,
        MalformedMessage,
        Unsendable,
        SessionCancelled,
        Superseded,
        StreamMissing,
        PublishRefused,
        BrokerUnavailable,
    )
}


class Child:
    """A process that runs `module`, with `settings`. Use `start`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[_Verdict]] = {}
        self._dismissed = False
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, module: str, settings: Settings) -> Self:
        """Returns when it is ready; raises BrokerUnavailable where it does not become so, for want of what it needs."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module),
            stdin=pipe,
            stdout=pipe,
            limit=LINE_BYTES,
            env={**os.environ, **environment_of(settings)},
        )
        child = cls(process)
        assert process.stdout is not None
        ready = b""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(START_S):
                    ready = await process.stdout.readline()
        finally:
            if not ready:
                child.kill()
                await process.wait()
        if not ready:
            raise BrokerUnavailable(f"{module} does not start")
        child._reading = asyncio.create_task(child._read(process.stdout), name=f"verdicts of {module}")
        return child

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it takes more."""
        return not (self._dismissed or self._reading is None or self._reading.done())

    async def ask(self, delivery: Delivery) -> None:
        """Has it handle a message; raises what its handler raised, SuspectFailed, or ChildDied."""
        number = next(self._numbers)
        answer: asyncio.Future[_Verdict] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            await self._write(msgspec.json.encode(_Asked(number, delivery)) + b"\n")
            verdict = await answer
        finally:
            self._asked.pop(number, None)
        if verdict.kind != "done":
            raise _KINDS.get(verdict.kind, SuspectFailed)(verdict.message)

    async def _write(self, line: bytes) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        if not self.alive:
            raise ChildDied("its process had ended")
        with suppress(ConnectionError, RuntimeError):  # it is dead, and `_read` says how
            stdin.write(line)
            await stdin.drain()

    async def _read(self, stdout: asyncio.StreamReader) -> None:
        how: PinstreamError = ChildDied("its process ended in disorder")
        try:
            while line := await stdout.readline():
                self._heard(line)
            code = await self._process.wait()
            how = ChildDied(f"its process ended {how_it_ended(code)}")
            if code == EX_UNAVAILABLE:
                how = BrokerUnavailable("the process for suspects has lost the broker")
        finally:
            for waiting in self._asked.values():
                if not waiting.done():
                    waiting.set_exception(how)

    def _heard(self, line: bytes) -> None:
        try:
            verdict = msgspec.json.decode(line, type=_Verdict)
        except msgspec.MsgspecError:
            log.warning("a process for suspects says what is no verdict", line=line[:200])
            return
        waiting = self._asked.get(verdict.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(verdict)

    def dismiss(self) -> None:
        """Has it end when it is done with what it was asked."""
        self._dismissed = True
        if self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self) -> None:
        """Ends it at once."""
        self._dismissed = True
        with suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """Ends it, gently at first; nothing of it is left."""
        self.dismiss()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        self.kill()
        await self._process.wait()
        if self._reading is not None:
            await end(self._reading)


async def serve_suspects(handler: Handler) -> None:
    """In the child: handles what comes by standard input, until that ends."""
    if sys.platform == "linux":
        die_with_parent(signal.SIGKILL)  # elsewhere the end of standard input has to do
    tasks: set[asyncio.Task[None]] = set()
    _say(_Verdict(kind="ready"))
    try:
        async for line in _lines():
            task = asyncio.create_task(_answer(handler, msgspec.json.decode(line, type=_Asked)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        await end(*tasks)


async def _lines() -> AsyncIterator[bytes]:
    """The lines of standard input."""
    if sys.platform == "win32":  # whose loops cannot read a pipe that was not made for them
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            yield line
        return
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line


async def _answer(handler: Handler, asked: _Asked) -> None:
    kind, message = "done", ""
    attach(extract(asked.delivery.headers))  # for this task alone
    try:
        await handler(asked.delivery)
    except Exception as error:  # the parent logs it, with the subject, and counts
        kind, message = "failed", f"{type(error).__name__}: {error}"[:500]
        if not isinstance(error, AlreadyExists | Fenced):
            kind = next((name for name, known in _KINDS.items() if isinstance(error, known)), kind)
            message = str(error) if kind != "failed" else message
    _say(_Verdict(asked.number, kind, message))


def _say(verdict: _Verdict) -> None:
    with suppress(BrokenPipeError):  # the parent is gone, and this process with it in a moment
        sys.stdout.buffer.write(msgspec.json.encode(verdict) + b"\n")
        sys.stdout.buffer.flush()
