"""The crawler without a site: `python -m benchmarks.emitter`. It emits what it has read before, and says when.

The real one's requests, leases, fence, emission and closing; a query names a corpus (`Corpus`), whose media are made
once by the real extractor from the stand-in's catalogue, so that reading costs nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from libs.common import subjects
from libs.common.bus import Bus, connect
from libs.common.lifecycle import run_service
from libs.common.messages import SearchRequest
from libs.common.settings import load
from libs.common.streams import await_streams
from services.crawler.__main__ import work
from services.crawler.page_read import PageRead
from services.crawler.settings import CrawlerSettings
from tests.emitted import distinct_media

EMITTED = ".emitted"  # ends the name of a session's file: when each of its items was handed to the broker


class Corpus(NamedTuple):
    """So many distinct videos, a page of so many every so many seconds: `emit 100 10 0.1 seed:3`."""

    videos: int
    page: int
    every_s: float
    seed: str

    @classmethod
    def of(cls, query: str) -> Corpus:
        """Of a query."""
        _, videos, page, every_s, seed = query.split(" ", 4)
        return cls(int(videos), int(page), float(every_s), seed)

    @property
    def query(self) -> str:
        """Its query."""
        return f"emit {self.videos} {self.page} {self.every_s:g} {self.seed}"


class Emitter:
    """Reads corpora; writes down when items were emitted."""

    def __init__(self, site: str, folder: Path) -> None:
        self.site, self.folder = site, folder
        self._emitted: dict[str, dict[str, float]] = {}

    async def read(self, request: SearchRequest, report: object) -> AsyncGenerator[PageRead, None]:
        """The pages of a corpus."""
        corpus, session = Corpus.of(request.query), request.session
        emitted = self._emitted[session] = {}
        media = await asyncio.to_thread(distinct_media, corpus.seed, corpus.videos, self.site)
        due = time.monotonic()
        for number, start in enumerate(range(0, len(media), corpus.page), 1):
            await asyncio.sleep(due - time.monotonic())
            due += corpus.every_s
            now = time.time()
            page = [
                msgspec.structs.replace(one, session=session, captured_at=now)
                for one in media[start : start + corpus.page]
            ]
            yield PageRead(number=number, way="feed", media=page, pins=len(page))
        signatures = {one.item: one.signature for one in media}
        times = {signatures[item]: at for item, at in emitted.items()}
        file = self.folder / f"{session}{EMITTED}"
        file.with_suffix(".part").write_text(json.dumps(times))
        file.with_suffix(".part").rename(file)

    def watch(self, bus: Bus) -> None:
        """Notes when raw media are handed to `bus`."""
        publish = bus.publish

        async def noting(subject: str, body: bytes, **more: Any) -> int:
            if subject.startswith(subjects.raw_of("x").split("x")[0]):
                session, item = subjects.item_key(subject)
                self._emitted[session].setdefault(item, time.monotonic())
            return await publish(subject, body, **more)

        bus.publish = noting  # type: ignore[method-assign]


class EmitterSettings(CrawlerSettings, frozen=True, kw_only=True):
    """The crawler's, and where it writes."""

    emitted_folder: Annotated[str, Meta(description="where a session's times go")] = "."


async def serve(settings: EmitterSettings, stop: asyncio.Event) -> None:
    """Until `stop`."""
    always: Callable[[], bool] = lambda: True  # noqa: E731
    async with connect(settings, "crawler") as bus:
        await await_streams(bus, subjects.CRAWLER)
        emitter = Emitter(settings.site, Path(settings.emitted_folder))
        emitter.watch(bus)
        await work(bus, settings, stop, emitter.read, always, "tests.chaos.suspects")


if __name__ == "__main__":
    settings = load(EmitterSettings, "python -m benchmarks.emitter", __doc__ or "")
    sys.exit(run_service("crawler", settings, serve))
