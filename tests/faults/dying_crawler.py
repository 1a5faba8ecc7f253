"""A crawler that dies by SIGKILL at one point of its first closing: `python -m tests.faults.dying_crawler POINT`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from libs.common import subjects
from libs.common.bus import Bus, connect
from libs.common.lifecycle import run_service
from libs.common.settings import load
from libs.common.streams import await_streams
from services.crawler.__main__ import work
from services.crawler.settings import CrawlerSettings
from tests.faults.reader import Reader

POINTS = {  # the last part of a subject, and whether it dies before it is published or after
    "before the end": ("end", True),
    "between the end and the count": ("end", False),
    "between the count and the record": (subjects.CRAWLED, True),
    "between the record and the acknowledgement": (subjects.CRAWLED, False),
}


def die_at(point: str) -> None:
    """From now on this process ends when it comes to `point`."""
    last, before = POINTS[point]
    publish = Bus.publish

    async def publish_or_die(self: Bus, subject: str, *args: Any, **named: Any) -> int:
        there = subject.rsplit(".", 1)[-1] == last
        if there and before:
            os.kill(os.getpid(), signal.SIGKILL)
        sequence = await publish(self, subject, *args, **named)
        if there:
            os.kill(os.getpid(), signal.SIGKILL)
        return sequence

    Bus.publish = publish_or_die  # type: ignore[method-assign]


async def serve(settings: CrawlerSettings, stop: asyncio.Event) -> None:
    """As the crawler's own, without the browser."""
    async with connect(settings, "crawler") as bus:
        await await_streams(bus, subjects.CRAWLER)
        await work(bus, settings, stop, Reader(settings.site).read, lambda: True)


if __name__ == "__main__":
    die_at(sys.argv[1])
    settings = load(CrawlerSettings, "python -m tests.faults.dying_crawler", __doc__ or "", [])
    sys.exit(run_service("crawler", settings, serve))
