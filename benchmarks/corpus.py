"""The raw media of many searches of the stand-in, in the order in which their crawls would emit them."""

from __future__ import annotations

import json
from itertools import zip_longest

import httpx2
import msgspec

from libs.common.messages import RawMedia
from services.crawler.extract import extract

HANDLER = {"X-Pinterest-PWS-Handler": "www/search/[scope].js"}


async def of_session(client: httpx2.AsyncClient, origin: str, query: str, session: str) -> list[RawMedia]:
    """All media of one search, by the crawler's extractor; embeds, which nobody asks for, are left out."""
    options = {"query": query, "scope": "videos", "page_size": 250, "gated": False, "bookmarks": []}
    response = await client.get(
        f"{origin}/resource/BaseSearchResource/get/",
        params={"data": json.dumps({"options": options, "context": {}})},
        headers=HANDLER,
    )
    results = response.raise_for_status().json()["resource_response"]["data"]["results"]
    return [item for item in extract(results, session=session, site=origin).media if item.variants]


async def of_sessions(origin: str, sessions: int, distinct: int, words: str = "") -> list[RawMedia]:
    """Items of `sessions` searches in turn, until `distinct` videos are among them; re-pins come between."""
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        feeds = [
            await of_session(client, origin, f"bench {n} pins:250 {words}".strip(), f"{n:032x}")
            for n in range(sessions)
        ]
    found: list[RawMedia] = []
    seen: set[str] = set()
    for row in zip_longest(*feeds):
        for item in row:
            if item is not None and len(seen) < distinct:
                seen.add(item.signature)
                found.append(item)
    if len(seen) < distinct:
        raise ValueError(f"{sessions} searches hold {len(seen)} videos, not {distinct}; ask for fewer seconds")
    return found


def moved(item: RawMedia, origin: str, to: str) -> RawMedia:
    """The same item with its media at another address."""
    variants = [msgspec.structs.replace(one, url=one.url.replace(origin, to)) for one in item.variants]
    return msgspec.structs.replace(item, variants=variants)
