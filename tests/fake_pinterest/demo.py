"""The demo: the whole system on this machine, against the stand-in site, for one search."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated

import typer

from libs.client.broker import free_port
from libs.client.client import Client
from libs.client.errors import BrokerMissing, StackFailed
from libs.client.local import LocalOptions, LocalStack
from libs.client.output import renderer
from libs.client.search import show
from libs.client.up import interrupted
from libs.common.exit_codes import EX_INTERRUPTED, EX_UNAVAILABLE
from libs.common.process import die_with_parent


@asynccontextmanager
async def stand_in(port: int) -> AsyncIterator[asyncio.StreamReader]:
    """The stand-in at `port`; it writes a line when it is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fake_pinterest",
        f"--port={port}",
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    try:
        assert process.stdout is not None
        yield process.stdout
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def demo(query: str, limit: int, keep: bool, site: str | None) -> int:
    """Runs it; returns the exit code. SIGTERM ends it as tidily as Ctrl-C."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with AsyncExitStack() as running:
        options = LocalOptions(site_url=site)
        if site is None:
            host = f"127.0.0.1:{free_port()}"
            stand_in_ready = await running.enter_async_context(stand_in(int(host.rpartition(":")[2])))
            options = LocalOptions(site_url=f"http://{host}", media_hosts=host)
        stack = await running.enter_async_context(LocalStack(options))
        if site is None and not await stand_in_ready.readline():
            raise StackFailed("the stand-in site did not start")
        code = await show(Client(stack.ws_url).search(query, limit=limit), renderer(None, limit))
        print(f"web page: {stack.page_url}{'' if keep else '  (with --keep it stays up)'}", file=sys.stderr)
        if keep and code == 0:
            print("Ctrl-C stops everything.", file=sys.stderr, flush=True)
            await interrupted()
        return code


def main(
    query: Annotated[str, typer.Argument(help="what to look for")] = "ceramic glaze",
    limit: Annotated[int, typer.Option(help="how many distinct videos")] = 50,
    keep: Annotated[bool, typer.Option(help="stay up until Ctrl-C")] = False,
    site: Annotated[str | None, typer.Option(help="another site than the stand-in", show_default=False)] = None,
) -> None:
    """One search through the whole system, against the stand-in site."""
    try:
        code = asyncio.run(demo(query, limit, keep, site))
    except (BrokerMissing, StackFailed) as error:
        print(f"demo: {error}", file=sys.stderr)
        code = EX_UNAVAILABLE
    except (asyncio.CancelledError, KeyboardInterrupt):
        code = EX_INTERRUPTED
    raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(main)
