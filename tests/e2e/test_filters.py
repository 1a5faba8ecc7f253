"""Filters and `new_only`, end to end."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime

from libs.client.client import Client, Search
from libs.common.messages import Filters, Kind, Orientation, Reason, Video
from tests.e2e.conftest import Stack
from tests.fake_pinterest import expected_results
from tests.fake_pinterest.wanted import wanted


async def collect(search: Search) -> set[str]:
    videos = [video async for video in search]
    assert len({video.id for video in videos}) == len(videos)
    return {_name(video) for video in videos}


async def command(*arguments: str) -> tuple[int | None, str, str]:
    """`pinstream search`, to its end."""
    pipe = asyncio.subprocess.PIPE
    line = (sys.executable, "-m", "libs.client.cli", "search", *arguments)
    process = await asyncio.create_subprocess_exec(*line, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def _name(video: Video) -> str:
    return video.url if video.kind is Kind.EMBED else video.id


async def test_filters_give_what_the_site_has_of_it_and_nothing_else(stack_of: Stack) -> None:
    query = "ceramic glaze pins:200 seed:filters"
    client = Client((await stack_of()).ws_url)

    sized = Filters(min_duration_s=10, max_duration_s=50, min_height=1000, orientation=Orientation.PORTRAIT)
    search = client.search(query, limit=5000, filters=sized)
    right = wanted(query, seconds=(10, 50), height=1000, orientation="portrait")
    assert 10 < len(right) < expected_results(query).unique / 2
    assert await collect(search) == right
    assert search.completed is not None
    summary = search.completed.summary
    assert (search.completed.reason, summary.found, summary.unavailable) == (Reason.EXHAUSTED, len(right), 0)
    assert summary.found + summary.repeats + summary.filtered == expected_results(query).items

    said = Filters(with_captions=True, exclude_promoted=True, created_after="2025-06-01")
    right = wanted(query, captions=True, unpromoted=True, after=datetime(2025, 6, 1, tzinfo=UTC))
    assert len(right) > 5
    assert await collect(client.search(query, limit=5000, filters=said)) == right
    limited = client.search(query, limit=4, filters=said)
    assert len(await collect(limited) & right) == 4
    assert limited.completed is not None
    assert limited.completed.reason is Reason.LIMIT

    options = ["--orientation", "landscape", "--max-duration", "59", "--limit", "5000", "--url", client.urls[0]]
    code, out, _ = await command(query, *options)
    right = wanted(query, orientation="landscape", seconds=(0, 59))
    assert code == 0
    assert {json.loads(line)["id"] for line in out.splitlines()} == right != set()
    code, _, err = await command(query, "--min-height", "0", "--url", client.urls[0])
    assert (code, "parameters.filters.min_height" in err) == (2, True)


async def test_who_watches_a_topic_is_given_only_what_is_new(stack_of: Stack) -> None:
    query = "raku pins:120 seed:watched"
    client = Client((await stack_of(dedups=2)).ws_url)
    expected = {video.id for video in expected_results(query).videos}
    first = await collect(client.search(query, limit=15, new_only="daily-glazes"))
    second_search = client.search(query, limit=5000, new_only="daily-glazes")
    second = await collect(second_search)
    assert len(first) == 15
    assert first & second == set()
    assert first | second == expected
    assert second_search.completed is not None
    assert second_search.completed.summary.seen >= 15
    third = client.search(query, limit=5, new_only="daily-glazes")
    assert await collect(third) == set()
    code, out, err = await command(query, "--new-only", "daily-glazes", "--url", client.urls[0])
    assert (code, out, "found: 0" in err, "seen before" in err) == (0, "", True, True)
    assert third.completed is not None
    assert third.completed.reason is Reason.EXHAUSTED
    assert len(await collect(client.search(query, limit=5, new_only="of-another"))) == 5
