"""`pinstream search`: one search, shown as it goes."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import aclosing, suppress

from libs.client.client import Client, Search
from libs.client.errors import GatewayUnreachable, RequestRefused
from libs.client.output import Format, Renderer, renderer
from libs.common.exit_codes import EX_FAILED, EX_INTERRUPTED, EX_UNAVAILABLE, EX_USAGE
from libs.common.frames import Accepted, Progress, VideoFrame
from libs.common.messages import Filters
from libs.common.source import is_url


async def show(search: Search, view: Renderer) -> int:
    """Runs `search` to its end in `view`; returns the exit code, having said on standard error what went wrong."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError):  # on Windows; there `asyncio.run` does the same
        loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        async with aclosing(search.frames()) as frames:
            async for frame in frames:
                if isinstance(frame, VideoFrame):
                    view.video(frame.video)
                elif isinstance(frame, Progress):
                    view.progress(frame)
                elif isinstance(frame, Accepted) and frame.webhook_secret is not None:
                    _say(f"what is posted is signed with {frame.webhook_secret}", 0)
    except RequestRefused as error:
        view.finish(None)
        named = f" ({error.field})" if error.field else ""
        return _say(f"refused{named}: {error.message}", EX_USAGE)
    except GatewayUnreachable as error:
        view.finish(None)
        return _say(str(error), EX_UNAVAILABLE)
    except asyncio.CancelledError:
        task.uncancel()
        view.finish(None)
        return _say("cancelled", EX_INTERRUPTED)
    finally:
        with suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGINT)
    completed = search.completed
    view.finish(completed)
    if completed is not None and completed.reason.failed:
        return _say(f"{completed.reason}: {completed.message or 'the search could not be finished'}", EX_FAILED)
    if completed is not None and completed.message:
        return _say(completed.message, 0)
    return 0


def _say(sentence: str, code: int) -> int:
    print(f"pinstream: {sentence}", file=sys.stderr, flush=True)
    return code


def run_search(
    topic_or_url: str,
    limit: int,
    url: str,
    format_: Format | None,
    *,
    filters: Filters | None = None,
    new_only: str | None = None,
    callback_url: str | None = None,
    api_key: str | None = None,
) -> int:
    """The command."""
    asked = {"url" if is_url(topic_or_url) else "query": topic_or_url}
    try:
        client = Client(url, api_key=api_key)
    except ValueError as error:
        return _say(str(error), EX_USAGE)

    async def run() -> int:
        search = client.search(**asked, limit=limit, filters=filters, new_only=new_only, callback_url=callback_url)
        return await show(search, renderer(format_, limit))

    return asyncio.run(run())
