"""The quarantine: suspects, one at a time, in a process of its own that may die of them.

The broker counts deliveries, not failures: beside a message that ends its process, innocent ones use theirs up too. So
what was delivered several times without an answer is moved here, and only here is it found out which of them it was.
A child process of the service (`serve_suspects`) handles them; its parent (`Quarantine`) sees it die, counts, and gives
the message up. The broker's trouble is not counted, nor the death of the parent.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
import structlog

from libs.common import subjects
from libs.common.bus import Bus
from libs.common.dead_letters import restored
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
    TooLarge,
)
from libs.common.handling import GaveUp, Handler, Handling, Superseded
from libs.common.process import die_with_parent, how_it_ended
from libs.common.settings import Settings, environment_of

MAX_FAILURES = 3
SUSPECT_STILL_S = 15.0  # sooner than a service: whoever spins here is most likely the one that is looked for
START_S = 30.0
IDLE_S = 60.0  # after which the child is ended: it holds the memory of a second service
STOP_S = 2.0
LINE_BYTES = 16 * 1024 * 1024  # a message of the broker's usual megabyte, headers and base64 included, many times over

log = structlog.get_logger()


class SuspectFailed(PinstreamError):
    """The message ended the process that handled it, or its handler failed."""


class _Verdict(msgspec.Struct, omit_defaults=True):
    """What the child says of a message; `kind` is `done` or the name of an exception."""

    kind: str = "done"
    message: str = ""


_KINDS: dict[str, type[PinstreamError]] = {
    kind.__name__: kind
    for kind in (
        NewerVersion,
        MalformedMessage,
        TooLarge,
        SessionCancelled,
        Superseded,
        StreamMissing,
        PublishRefused,
        BrokerUnavailable,
    )
}


class Quarantine:
    """Answers a stage's suspects by a child that runs `module`; `gave_up` is told of those that failed for good.

    The child gets `settings`; `limit_s` is how long one message may take. Use `quarantine`.
    """

    def __init__(
        self,
        bus: Bus,
        stage: str,
        template: str,
        gave_up: GaveUp,
        module: str,
        settings: Settings,
        limit_s: float,
    ) -> None:
        self.module, self.settings, self.limit_s = module, settings, limit_s
        self.handling = Handling(bus, stage, template, self._handle, gave_up, max_failures=MAX_FAILURES)
        self._child: asyncio.subprocess.Process | None = None
        self._killed = False
        self._idle: asyncio.TimerHandle | None = None

    async def answer(self, delivery: Delivery) -> bytes | None:
        """What `libs.common.pull` tells the broker of a suspect."""
        return await self.handling.answer(_restored(delivery))

    async def _handle(self, delivery: Delivery) -> None:
        if self._idle is not None:
            self._idle.cancel()
        try:
            child = await self._running()
            try:
                async with asyncio.timeout(self.limit_s):
                    verdict = await _ask(child, delivery)
            except TimeoutError:
                raise SuspectFailed(f"it was not done within {self.limit_s:g} s") from None
        except BaseException:
            self._kill()
            raise
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._retire)
        if verdict.kind != "done":
            raise _KINDS.get(verdict.kind, SuspectFailed)(verdict.message)

    async def _running(self) -> asyncio.subprocess.Process:
        if self._child is not None:
            if not self._killed and self._child.returncode is None:
                return self._child
            await self._child.wait()
        command = (sys.executable, "-m", self.module)
        pipe = asyncio.subprocess.PIPE
        environ = {**os.environ, **environment_of(self.settings)}
        self._killed = False
        self._child = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, limit=LINE_BYTES, env=environ
        )
        assert self._child.stdout is not None
        try:
            async with asyncio.timeout(START_S):
                ready = await self._child.stdout.readline()
        except TimeoutError:
            ready = b""
        if not ready:
            raise BrokerUnavailable("the process for suspects does not start")
        log.info("a process for suspects runs", module=self.module, pid=self._child.pid)
        return self._child

    def _kill(self) -> None:
        self._killed = True
        if self._child is not None:
            with suppress(ProcessLookupError):
                self._child.kill()

    def _retire(self) -> None:
        if self._child is not None and self._child.stdin is not None:
            self._child.stdin.close()  # it ends when it has read that

    async def close(self) -> None:
        """Ends the child."""
        if self._idle is not None:
            self._idle.cancel()
        child, self._child = self._child, None
        if child is None:
            return
        if child.stdin is not None:
            child.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S if child.returncode is None else None):
                await child.wait()
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()


@asynccontextmanager
async def quarantine(
    bus: Bus, stage: str, template: str, gave_up: GaveUp, module: str, settings: Settings, limit_s: float
) -> AsyncIterator[Quarantine]:
    """A stage's quarantine, whose child is ended at the end."""
    lane = Quarantine(bus, stage, template, gave_up, module, settings, limit_s)
    try:
        yield lane
    finally:
        await lane.close()


async def _ask(child: asyncio.subprocess.Process, delivery: Delivery) -> _Verdict:
    assert child.stdin is not None and child.stdout is not None
    line = b""
    with suppress(ConnectionError):  # it is dead: its output ends too
        child.stdin.write(msgspec.json.encode(delivery) + b"\n")
        await child.stdin.drain()
        line = await child.stdout.readline()
    if not line:
        raise SuspectFailed(f"its process ended {how_it_ended(await child.wait())}")
    return msgspec.json.decode(line, type=_Verdict)


def _restored(delivery: Delivery) -> Delivery:
    """A suspect as it was before it was moved."""
    return delivery._replace(subject=subjects.original(delivery.subject), headers=restored(delivery.headers))


async def serve_suspects(handler: Handler) -> None:
    """In the child: handles what comes by standard input, a delivery a line, until that ends."""
    die_with_parent(signal.SIGKILL)
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    _say(_Verdict("ready"))
    while line := await reader.readline():
        _say(await _verdict(handler, msgspec.json.decode(line, type=Delivery)))


def _say(verdict: _Verdict) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(verdict) + b"\n")
    sys.stdout.buffer.flush()


async def _verdict(handler: Handler, delivery: Delivery) -> _Verdict:
    try:
        await handler(delivery)
    except Exception as error:  # the parent logs it, with the subject, and counts
        for name, kind in _KINDS.items():
            if isinstance(error, kind) and not isinstance(error, AlreadyExists | Fenced):
                return _Verdict(name, str(error))
        return _Verdict("failed", f"{type(error).__name__}: {error}"[:500])
    return _Verdict()
