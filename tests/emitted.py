"""Raw media as a crawl of the stand-in emits them, made once, without a browser."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from libs.common.messages import RawMedia
from services.crawler.extract import extract
from tests.fake_pinterest import search_feed
from tests.fake_pinterest.origins import Origins
from tests.fake_pinterest.resources import shown_pin


@lru_cache(maxsize=256)
def distinct_media(seed: str, videos: int, site: str) -> tuple[RawMedia, ...]:
    """So many videos of one search, each once, of no session yet."""
    feed = search_feed(f"{seed} pins:{videos * 4}")
    origins = Origins(site, site, site, site)
    pins = [msgspec.json.decode(shown_pin(pin.id, feed.topic, origins, False)) for pin in feed.catalogue()]
    found = {one.signature: one for one in extract(pins, session="", site=site).media if one.variants}
    if len(found) < videos:
        raise ValueError(f"{len(found)} videos, not {videos}")
    return tuple(found.values())[:videos]
