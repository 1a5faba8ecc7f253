"""An object in a process of its own, so that what it costs is not counted with anybody else's."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import uvloop

from libs.common.process import die_with_parent
from services.gateway.open_files import raise_open_files


def _serve(make: Callable[..., Any], arguments: tuple[Any, ...], pipe: Connection) -> None:
    async def main() -> None:
        served = make(*arguments)
        while (call := await asyncio.to_thread(pipe.recv)) is not None:
            name, given = call
            try:
                pipe.send((await getattr(served, name)(*given), None))
            except Exception as error:
                pipe.send((None, f"{name}: {error!r}"))

    die_with_parent()
    raise_open_files()
    uvloop.run(main())


class Worker:
    """`with Worker(Feeder, url) as feeder: await feeder.call("feed", plan)`; what is called is a coroutine method."""

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, arguments, theirs), daemon=True)

    def __enter__(self) -> Worker:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send(None)
        self._process.join(5)
        self._process.kill()

    @property
    def pid(self) -> int:
        """Of the process, once it is started."""
        assert self._process.pid is not None, "not started"
        return self._process.pid

    async def call(self, method: str, *arguments: Any) -> Any:
        """What it returns; raises RuntimeError with what it raised."""
        self._pipe.send((method, arguments))
        result, error = await asyncio.to_thread(self._pipe.recv)
        if error is not None:
            raise RuntimeError(error)
        return result
