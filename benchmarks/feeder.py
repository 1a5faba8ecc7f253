"""Writes videos to session logs as dedup does, and says when."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import NamedTuple

from libs.common import subjects
from libs.common.bus import connect
from libs.common.messages import Alternative, Board, Creator, Kind, Pin, Video, VideoRecord
from libs.common.session_log import SessionLog
from libs.common.settings import Settings

IN_FLIGHT = 256


class Written(NamedTuple):
    """A video by its id: when it was handed to the broker, and when that had stored it; by the monotonic clock."""

    id: str
    sent: float
    stored: float


class Feeder:
    """For the broker at `nats_url`."""

    def __init__(self, nats_url: str) -> None:
        self.nats_url = nats_url
        self._numbers = itertools.count()

    async def feed(self, sessions: list[str], plan: list[tuple[float, int]]) -> list[Written]:
        """By `plan`: seconds from now, number of the session."""
        written: list[Written] = []
        room = asyncio.Semaphore(IN_FLIGHT)
        async with connect(Settings(nats_url=self.nats_url), "feeder") as bus:
            log = SessionLog(bus)

            async def one(session: str) -> None:
                number = next(self._numbers)
                record = VideoRecord(item=f"{number}-0", video=video(number))
                sent = time.monotonic()
                await log.create(session, subjects.VIDEO, record, record.video.id)
                written.append(Written(record.video.id, sent, time.monotonic()))
                room.release()

            begun_at = time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                for after_s, number in plan:
                    if (wait_s := begun_at + after_s - time.monotonic()) > 0:
                        await asyncio.sleep(wait_s)
                    await room.acquire()
                    tasks.create_task(one(sessions[number]))
        return written


def video(number: int) -> Video:
    """One with all that a usual one has: about 1.4 kB."""
    id_ = f"{number:032x}"
    host = "https://v1.pinimg.com/videos"
    path = f"{id_[:2]}/{id_[2:4]}/{id_[4:6]}/{id_}"
    pin = Pin(
        id=str(10**17 + number),
        url=f"https://www.pinterest.com/pin/{10**17 + number}/",
        title="Ceramic glaze recipes: a celadon from wood ash, fired in reduction",
        description="How the glaze is mixed, sieved and applied, and what it looks like out of the kiln. " * 2,
        created_at="2024-05-01T12:00:00Z",
        creator=Creator(username="mia", full_name="Mia Potter", url="https://www.pinterest.com/mia/"),
        board=Board(name="Glazes", url="https://www.pinterest.com/mia/glazes/"),
        dominant_color="#a1b2c3",
        reactions=123,
    )
    sizes = [(f"{host}/mc/hls/{path}.m3u8", Kind.HLS), (f"{host}/iht/720p/{path}.mp4", Kind.MP4)]
    return Video(
        id=id_,
        url=f"{host}/mc/720p/{path}.mp4",
        kind=Kind.MP4,
        verified=True,
        codec="h264",
        width=720,
        height=1280,
        duration_ms=30_000,
        size_bytes=4_000_000,
        poster_url=f"https://i.pinimg.com/videos/thumbnails/originals/{path}.0000000.jpg",
        captions={"en-US": f"{host}/captions/{path}.vtt"},
        alternatives=[Alternative(url=url, kind=kind, width=720, height=1280) for url, kind in sizes],
        pin=pin,
    )
