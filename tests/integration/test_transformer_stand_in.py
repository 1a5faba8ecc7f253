"""The resolver on whole corpora of the stand-in: a verified MP4 wherever its CDN has an H.264 file."""

from __future__ import annotations

import asyncio
import json

import httpx2
import pytest

from libs.common.messages import Kind, RawMedia, Video
from services.crawler.extract import extract
from services.transformer.egress import trust
from services.transformer.resolver import Resolver
from services.transformer.settings import TransformerSettings
from tests.fake_pinterest import ExpectedVideo, FakePinterest, expected_results

HANDLER = {"X-Pinterest-PWS-Handler": "www/search/[scope].js"}


def settings(site: FakePinterest, **changes: object) -> TransformerSettings:
    given: dict[str, object] = {
        "site_url": site.origin,
        "media_hosts": (site.origin.removeprefix("http://"),),
        "site_requests_per_second": 500.0,
    }
    return TransformerSettings(**(given | changes))  # type: ignore[arg-type]


async def found(client: httpx2.AsyncClient, origin: str, query: str) -> list[RawMedia]:
    """What the crawler's extractor makes of the whole feed."""
    items: list[RawMedia] = []
    bookmarks: list[str] = []
    while True:
        options = {"query": query, "scope": "videos", "page_size": 250, "gated": False, "bookmarks": bookmarks}
        response = await client.get(
            f"{origin}/resource/BaseSearchResource/get/",
            params={"data": json.dumps({"options": options, "context": {}})},
            headers=HANDLER,
        )
        answer = response.raise_for_status().json()["resource_response"]
        items += extract(answer["data"]["results"], session="s", site=origin).media
        bookmark = answer.get("bookmark") or "-end-"
        if bookmark == "-end-" or bookmark.startswith("Y2JOb25lO"):
            return items
        bookmarks = [bookmark]


async def videos(resolver: Resolver, items: list[RawMedia]) -> list[Video]:
    directs = await asyncio.gather(*map(resolver.resolve, items))
    assert [direct.unavailable for direct in directs if direct.video is None] == []
    return [direct.video for direct in directs if direct.video]


def wrong(video: Video, expected: dict[str, ExpectedVideo]) -> str | None:
    """What is wrong with `video`."""
    right = expected[video.url if video.kind is Kind.EMBED else video.id]
    if right.kind == "embed":
        return None if not video.verified else f"{right.clip}: an embed cannot be verified"
    ends_right = right.path is not None and video.url.endswith(right.path)
    if video.kind == right.kind and ends_right and video.verified and video.codec == "h264":
        return None
    return f"{right.clip}: {right.path} is right, not {video.kind} {video.url} {video.codec} {video.verified}"


@pytest.mark.parametrize(
    "query",
    ["ceramic glaze", "raku pins:300", "celadon seed:b", "wood firing fault:cdn_head_forbidden", "slip fault:cdn_down"],
)
async def test_every_video_with_an_h264_file_is_given_as_a_verified_mp4(query: str) -> None:
    async with FakePinterest() as site, httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        items = await found(client, site.origin, query)
        async with Resolver(settings(site)) as resolver:
            given = await videos(resolver, items)
    expected = expected_results(query).by_id()
    assert {video.url if video.kind is Kind.EMBED else video.id for video in given} == set(expected)
    assert [text for video in given if (text := wrong(video, expected))] == []


@pytest.mark.parametrize("fault", ["cdn_down times:always", "cdn_slow"])
async def test_a_cdn_that_is_down_or_slow_loses_no_video(fault: str) -> None:
    query = f"ash glaze pins:40 fault:{fault}"
    async with FakePinterest() as site, httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        items = await found(client, site.origin, query)
        async with Resolver(settings(site, request_timeout_s=0.3, item_timeout_s=2.0)) as resolver:
            given = await videos(resolver, items)
    expected = expected_results(query).by_id()
    assert {video.url if video.kind is Kind.EMBED else video.id for video in given} == set(expected)
    assert not any(video.verified for video in given)


async def test_the_real_host_names_are_reached_through_the_proxy_and_trusted_by_the_ca_file() -> None:
    query = "majolica pins:60"
    async with FakePinterest(tls=True) as site:
        changed = settings(
            site,
            site_url="https://www.pinterest.com",
            media_hosts=("pinimg.com",),
            upstream_proxy=site.proxy,
            upstream_ca_file=site.ca_file,
        )
        client = httpx2.AsyncClient(proxy=site.proxy, verify=trust(site.ca_file), trust_env=False, timeout=30)
        async with client, Resolver(changed) as resolver:
            given = await videos(resolver, await found(client, "https://www.pinterest.com", query))
        expected = expected_results(query).by_id()
        assert [text for video in given if (text := wrong(video, expected))] == []
        assert site.state.connects["v1.pinimg.com"] > 0
        assert set(site.state.connects) <= {
            "www.pinterest.com",
            "widgets.pinterest.com",
            "v1.pinimg.com",
            "v.pinimg.com",
        }


async def test_without_the_ca_file_nothing_is_verified_and_nothing_is_lost() -> None:
    query = "slipware pins:15"
    async with FakePinterest(tls=True) as site:
        client = httpx2.AsyncClient(proxy=site.proxy, verify=trust(site.ca_file), trust_env=False, timeout=30)
        async with client:
            items = await found(client, "https://www.pinterest.com", query)
        changed = settings(site, media_hosts=("pinimg.com",), upstream_proxy=site.proxy)
        async with Resolver(changed) as resolver:
            given = await videos(resolver, items)
        assert given
        assert not any(video.verified for video in given)
