"""What the transformer is told."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from libs.common.settings import UpstreamSettings


class TransformerSettings(UpstreamSettings, frozen=True, kw_only=True):
    """Every default works on a laptop and is polite to the site."""

    items: Annotated[int, Meta(ge=1, description="items resolved at once; most of them wait, so more than PROBES")] = (
        200
    )
    probes: Annotated[int, Meta(ge=1, description="requests to the CDN under way at once")] = 64
    probes_per_host: Annotated[int, Meta(ge=1, description="the same, to any one host")] = 24
    request_timeout_s: Annotated[float, Meta(gt=0, description="how long one request may take")] = 2.5
    request_attempts: Annotated[
        int,
        Meta(
            ge=1,
            le=10,
            description="how often a request is made that is answered by 5xx or cut; twice at most if it times out",
        ),
    ] = 3
    item_timeout_s: Annotated[
        float,
        Meta(
            gt=0, description="longest wait for the CDN about one item, queueing included; then its best guess is taken"
        ),
    ] = 40.0
    handle_limit_s: Annotated[
        float, Meta(gt=0, description="longest that one item may take; then it has failed, and is tried again")
    ] = 300.0
    cache_size: Annotated[int, Meta(ge=1, description="videos remembered, by signature; some 2 kB each")] = 2_000
    cache_ttl_s: Annotated[float, Meta(gt=0, description="how long a resolved video is remembered")] = 3600.0
    unsettled_ttl_s: Annotated[
        float, Meta(ge=0, description="how long a result is remembered that a fault of the CDN or the site marred")
    ] = 5.0
    absent_ttl_s: Annotated[float, Meta(gt=0, description="how long the CDN's answer on an address is remembered")] = (
        300.0
    )
    allow_hevc: Annotated[bool, Meta(description="hand on HEVC and AV1 files where there is no H.264 one")] = False
    ask_pins: Annotated[bool, Meta(description="ask the site about a pin when no file is found on the CDN")] = True
    site_requests_per_second: Annotated[
        float, Meta(gt=0, description="pace of requests to the site, of all transformers together")
    ] = 3.0
    site_wait_s: Annotated[
        float,
        Meta(gt=0, description="longest wait for a turn at the site; items beyond that go without, as verified HLS"),
    ] = 5.0
