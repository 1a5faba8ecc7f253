"""One search, end to end: real processes, a real broker, a real browser, real sockets."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import aclosing
from pathlib import Path

import httpx2
import msgspec
import psutil
import pytest

from libs.client.client import Client, Search
from libs.client.errors import SearchFailed
from libs.common.frames import VideoFrame
from libs.common.messages import Kind, Reason, Video
from tests.e2e.answer import assert_right
from tests.e2e.conftest import Stack
from tests.fake_pinterest import board_feed, expected_of, expected_results, running_site, search_feed
from tests.wait import wait_for

ROOT = Path(__file__).parents[2]


async def collect(search: Search) -> list[Video]:
    return [video async for video in search]


async def test_every_unique_video_arrives_once_and_plays(stack_of: Stack) -> None:
    query = "ceramic glaze pins:200 seed:e2e"
    stack = await stack_of()
    search = Client(stack.ws_url).search(query, limit=5000)
    videos = await collect(search)
    expected = expected_results(query)
    assert_right(videos, expected)
    assert search.completed is not None
    summary = search.completed.summary
    assert search.completed.reason is Reason.EXHAUSTED
    assert (summary.found, summary.repeats, summary.unavailable) == (expected.unique, expected.repeats, 0)
    async with httpx2.AsyncClient() as client:
        for video in [video for video in videos if video.kind is Kind.MP4][:10]:
            head = (await client.get(video.url, headers={"Range": "bytes=0-11"})).content
            assert head[4:8] == b"ftyp"
            assert video.pin.id and video.pin.url and video.poster_url


async def test_pinstream_search_takes_an_address_too(stack_of: Stack) -> None:
    stack = await stack_of()
    board = board_feed("mia", "e2e--pins-40--sections-apart")
    assert board is not None
    pin = next(pin.id for pin in search_feed("e2e").catalogue() if not pin.videos)

    async def pinstream(url: str) -> tuple[int | None, str, str]:
        command = (sys.executable, "-m", "libs.client.cli", "search", url, "--url", stack.ws_url, "--limit", "1000")
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=PIPE, stderr=PIPE)
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    origin = stack.options.site_url
    found, none, still, gone, refused = await asyncio.gather(
        *(
            pinstream(url)
            for url in (
                f"{origin}/mia/e2e--pins-40--sections-apart/",
                f"{origin}/mia/e2e--mix-pictures/",
                f"{origin}/pin/{pin}/",
                "pinterest.com/nobody/_saved/",
                "https://example.com/mia/",
            )
        )
    )
    assert found[0] == 0, found[2]
    assert_right([msgspec.json.decode(line, type=Video) for line in found[1].splitlines()], expected_of(board))
    assert none[:2] == (0, "")
    assert still[:2] == (0, "")
    assert "This pin has no video." in still[2]
    assert gone[:2] == (1, "")
    assert "not_found: There is no such user" in gone[2]
    assert refused[:2] == (2, "")
    assert "refused (parameters.url)" in refused[2]


async def test_two_replicas_of_every_service_share_many_sessions(stack_of: Stack) -> None:
    stack = await stack_of(gateways=2, crawlers=2, transformers=2, dedups=2)
    queries = [f"pots pins:60 seed:two{n}" for n in range(8)]
    searches = [Client(stack.ws_urls[n % 2]).search(query, limit=1000) for n, query in enumerate(queries)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(collect(search)) for search in searches]
    for query, task in zip(queries, tasks, strict=True):
        assert_right(task.result(), expected_results(query))


@pytest.mark.parametrize("limit", [1, 10, 25])
async def test_a_limit_is_kept_exactly(stack_of: Stack, limit: int) -> None:
    stack = await stack_of()
    search = Client(stack.ws_url).search(f"tiles pins:120 seed:limit{limit}", limit=limit)
    videos = await collect(search)
    assert len({video.id for video in videos}) == len(videos) == limit
    assert search.completed is not None
    assert search.completed.reason is Reason.LIMIT


@pytest.mark.parametrize("service", ["gateway", "crawler", "transformer", "dedup"])
async def test_a_service_killed_in_mid_search_costs_no_video_and_repeats_none(stack_of: Stack, service: str) -> None:
    query = f"bowls pins:200 seed:kill-{service} latency:150"
    stack = await stack_of()
    search = Client(stack.ws_url).search(query, limit=5000)
    videos: list[Video] = []
    async with aclosing(search.frames()) as frames:
        async for frame in frames:
            if isinstance(frame, VideoFrame):
                videos.append(frame.video)
                if len(videos) in (5, 40):
                    stack.kill(service)
    assert stack.processes(service)[0].restarts >= 1
    assert_right(videos, expected_results(query))
    assert search.completed is not None
    assert search.completed.reason is Reason.EXHAUSTED


async def test_random_kills_of_all_services_with_two_replicas_each(stack_of: Stack) -> None:
    rng = random.Random(7)
    stack = await stack_of(gateways=2, crawlers=2, transformers=2, dedups=2)
    queries = [f"vase pins:80 seed:chaos{n} latency:200" for n in range(4)]
    searches = [Client(stack.ws_urls[n % 2]).search(query, limit=1000) for n, query in enumerate(queries)]
    tasks = [asyncio.create_task(collect(search)) for search in searches]
    done = asyncio.gather(*tasks)
    kills = 0
    while not done.done() and kills < 16:
        await asyncio.wait([done], timeout=0.5)
        service = rng.choice(["gateway", "crawler", "transformer", "dedup"])
        try:
            stack.kill(service, rng.randrange(2))
            kills += 1
        except ProcessLookupError:
            continue  # it is being started again
    for query, videos in zip(queries, await done, strict=True):
        assert_right(videos, expected_results(query))


async def test_a_search_that_is_left_is_cancelled(stack_of: Stack) -> None:
    stack = await stack_of()
    client = Client(stack.ws_url)
    async with client.search("cups pins:1000 seed:left latency:200", limit=5000) as search:
        async for _video in search:
            break
    assert search.session_id is not None
    again = client.follow(search.session_id)
    await collect(again)
    assert again.completed is not None
    assert again.completed.reason is Reason.CANCELLED


async def test_a_site_that_cannot_be_reached_is_a_typed_error_and_a_sentence(stack_of: Stack, unused_port: int) -> None:
    stack = await stack_of(site_url=f"http://127.0.0.1:{unused_port}")
    with pytest.raises(SearchFailed) as failed:
        await collect(Client(stack.ws_url).search("anything", limit=5))
    assert failed.value.reason is Reason.UNREACHABLE
    assert "could not be reached" in str(failed.value)


async def test_the_real_host_names_are_reached_through_a_proxy_and_a_ca_of_ones_own(stack_of: Stack) -> None:
    query = "glass pins:60 seed:proxy"
    with running_site(tls=True) as site:
        assert site.proxy is not None
        assert site.ca_file is not None
        stack = await stack_of(
            site_url="https://www.pinterest.com",
            media_hosts="pinimg.com",
            environ={"UPSTREAM_PROXY": site.proxy, "UPSTREAM_CA_FILE": site.ca_file},
        )
        videos = await collect(Client(stack.ws_url).search(query, limit=1000))
    assert_right(videos, expected_results(query))
    assert all(video.url.startswith("https://v") for video in videos if video.kind is not Kind.EMBED)


async def test_nothing_is_left_when_the_system_stops(stack_of: Stack) -> None:
    stack = await stack_of()
    await collect(Client(stack.ws_url).search("mugs pins:60 seed:stop", limit=3))
    family = [psutil.Process(service.pid) for service in stack.services]
    family += [child for process in family for child in process.children(recursive=True)]
    assert any("chrom" in process.name() for process in family)
    await stack.stop()
    assert [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    assert not stack.folder.exists()


async def test_a_replica_that_stood_still_may_answer_all_that_it_was_asked_meanwhile(stack_of: Stack) -> None:
    stack = await stack_of()
    place = stack.ws_url.replace("ws://", "http://").removesuffix("/ws") + "/v1/status"
    pid = stack.processes("transformer")[0].pid

    async with httpx2.AsyncClient() as client:

        async def states() -> dict[str, str]:
            services = (await client.get(place)).json()["services"]
            return {one["replica"]: one["state"] for service in services for one in service["replicas"]}

        async def is_(state: str) -> bool:
            return (await states()).get("transformer-1") == state

        await wait_for(lambda: is_("ready"), "it answers")
        os.kill(pid, signal.SIGSTOP)
        try:
            await wait_for(lambda: is_("lost"), "three questions were not answered")
        finally:
            os.kill(pid, signal.SIGCONT)
        await wait_for(lambda: is_("ready"), "it answers again")
