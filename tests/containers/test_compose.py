"""One search through the system as docker-compose.yml runs it."""

from __future__ import annotations

from functools import partial

import httpx2

from libs.client.client import Client
from libs.common.messages import Reason
from tests.containers.engine import Project
from tests.e2e.answer import assert_right
from tests.fake_pinterest import expected_results
from tests.wait import wait_until

READY_S = 180  # two browsers start at once


async def test_one_search_gives_the_videos_that_the_stand_in_has(project: Project) -> None:
    query = "ceramic glaze pins:60 seed:compose"
    await wait_until(partial(project.healthy), "all containers are healthy", READY_S)
    address = project.environ["PUBLISH"]
    search = Client(f"ws://{address}/ws").search(query, limit=1000)
    videos = [video async for video in search]
    assert_right(videos, expected_results(query))
    assert search.completed is not None
    assert search.completed.reason is Reason.EXHAUSTED
    async with httpx2.AsyncClient() as client:
        assert "<html" in (await client.get(f"http://{address}/")).text


async def test_every_container_runs_as_it_should(project: Project) -> None:
    containers = project.containers()
    assert len(project.containers("crawler")) == 2
    for container in containers:
        host, name = container["HostConfig"], container["Name"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert host["Memory"] > 0, name
        if "nats" not in name:
            assert container["Config"]["User"] == "10001:10001", name
    assert {container["HostConfig"]["Memory"] for container in project.containers("crawler")} == {2 * 2**30}
