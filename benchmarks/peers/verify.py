"""Is an address a file that plays? The same question for every contender, asked of the CDN after its run."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from typing import NamedTuple

import httpx2

from tests.fake_pinterest import RunningSite

HEAD = "bytes=0-65535"
AT_ONCE = 32


class Playable(NamedTuple):
    """The signatures of videos with a file that plays: of any codec, and of H.264, which every browser knows."""

    any_codec: set[str]
    h264: set[str]


def plays(body: bytes) -> bool:
    """Whether this beginning of an MP4 is one of a whole film: its brand, its index, a picture track, samples in it."""
    boxes = dict(_boxes(body))
    return b"ftyp" in boxes and b"vide" in boxes.get(b"moov", b"") and b"mvex" not in boxes[b"moov"]


def is_h264(body: bytes) -> bool:
    """Whether the index at the beginning of an MP4 tells of H.264 samples."""
    return b"avc1" in dict(_boxes(body)).get(b"moov", b"")


def _boxes(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes at the top, as far as they are there."""
    place = 0
    while place + 8 <= len(body):
        size = int.from_bytes(body[place : place + 4], "big")
        yield body[place + 4 : place + 8], body[place + 8 : place + size]
        if size < 8:
            return
        place += size


async def verified(site: RunningSite, videos: dict[str, list[str]]) -> Playable:
    """Those of `videos` for which any address is an MP4 that the CDN gives (200 or 206) and that plays."""
    assert site.proxy and site.ca_file
    turns = asyncio.Semaphore(AT_ONCE)
    trust = ssl.create_default_context(cafile=site.ca_file)
    limits = httpx2.Limits(max_connections=AT_ONCE)
    playable = Playable(set(), set())
    async with httpx2.AsyncClient(proxy=site.proxy, verify=trust, timeout=30, trust_env=False, limits=limits) as client:

        async def one(signature: str, addresses: list[str]) -> None:
            for address in dict.fromkeys(addresses):
                if not address.endswith(".mp4") or signature in playable.h264:
                    continue
                async with turns:
                    answer = await client.get(address, headers={"Range": HEAD})
                if answer.status_code in (200, 206) and plays(answer.content):
                    playable.any_codec.add(signature)
                    if is_h264(answer.content):
                        playable.h264.add(signature)

        await asyncio.gather(*(one(*each) for each in videos.items()))
    return playable
