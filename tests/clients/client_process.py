"""One of the genuine clients as a process: what it is told, and what it has seen."""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

from tests.clients.environments import NODE, PYTHON, node, python
from tests.wait import wait_until

SEEN_S = 30.0  # a client comes back after a second or three, and the machine may be busy


class ClientProcess:
    """Use `node_client` or `python_client`."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.seen: list[dict[str, Any]] = []

    async def read(self) -> None:
        """Until it ends."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.seen.append(json.loads(line))

    async def tell(self, op: str, **given: Any) -> None:
        """Has it do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"op": op, **given}).encode() + b"\n")
        await self.process.stdin.drain()

    async def ask(self, op: str, answer: str, **given: Any) -> Any:
        """Has it do something; what it then says."""
        before = len(self.seen)
        await self.tell(op, **given)
        await wait_until(lambda: self.of(answer, before), f"{op}: {answer}, not {self.seen[before:]}", SEEN_S)
        return self.of(answer, before)[0]

    def of(self, name: str, start: int = 0) -> list[Any]:
        """What it has said under a name."""
        return [line[name] for line in self.seen[start:] if name in line]

    @property
    def added(self) -> list[str]:
        """The children that it was told of, in their order."""
        return self.of("added")


@asynccontextmanager
async def _running(*command: str, **environ: str) -> AsyncIterator[ClientProcess]:
    limit = 64 * 1024 * 1024  # of a line: a whole session may stand in one
    environment = {**os.environ, **environ}
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=limit, env=environment)
    client = ClientProcess(process)
    reading = asyncio.create_task(client.read(), name="client")
    try:
        await wait_until(lambda: client.of("ready") or reading.done(), f"{command[1]} is ready", 60)
        assert not reading.done(), f"{command[1]} ended at once; what it said is above"
        yield client
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading


def node_client(
    kind: str, origin: str, token: str | None = None, **environ: str
) -> AbstractAsyncContextManager[ClientProcess]:
    """npm `firebase` (`firebase`, `appcheck`, `emulator`) or `firebase-admin` (`admin`)."""
    return _running(node(), str(NODE / "client.mjs"), kind, origin, *([] if token is None else [token]), **environ)


def python_client(kind: str, origin: str) -> AbstractAsyncContextManager[ClientProcess]:
    """PyPI `firebase-admin` (`admin`) or `pyrebase4` (`pyrebase`)."""
    return _running(python(), str(PYTHON / "client.py"), kind, origin)
