"""docker-compose.cluster.yml: three brokers, and a search that goes on when one of them is killed."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from libs.client.broker import free_port
from libs.client.client import Client
from libs.common.messages import Video
from tests.containers.engine import Project, lacking, running, said
from tests.e2e.answer import assert_right
from tests.fake_pinterest import expected_results
from tests.wait import wait_until

READY_S = 300
SERVERS = ("nats", "nats-2", "nats-3")


@pytest.fixture
def cluster() -> Iterator[Project]:
    if why := lacking():
        pytest.skip(f"containers cannot be run here: {why}")
    environ = {"PUBLISH": f"127.0.0.1:{free_port()}"}
    with running(f"pinstream-test-{secrets.token_hex(4)}", environ, "docker-compose.cluster.yml") as project:
        yield project


def streams_of(project: Project) -> list[dict[str, Any]]:
    """What the second server says of the streams and where they are."""
    [container] = project.containers("nats-2")
    told = json.loads(
        said(
            "docker",
            "exec",
            container["Id"],
            "wget",
            "-q",
            "-O",
            "-",
            "http://127.0.0.1:8222/jsz?streams=1&acc=PINSTREAM&config=1",
        )
    )
    return [stream for account in told["account_details"] for stream in account["stream_detail"]]


async def test_a_search_goes_on_when_one_of_three_brokers_is_killed(cluster: Project) -> None:
    await wait_until(partial(cluster.healthy), "all containers are healthy", READY_S)
    assert {stream["config"]["num_replicas"] for stream in streams_of(cluster)} == {3}
    query = "plates pins:60 size:15 seed:compose-cluster latency:150"
    videos: list[Video] = []
    search = Client(f"ws://{cluster.environ['PUBLISH']}/ws").search(query, limit=1000)
    async for video in search:
        videos.append(video)
        if len(videos) == 5:
            [first] = cluster.containers(SERVERS[0])
            said("docker", "kill", first["Id"])
    assert_right(videos, expected_results(query))
    assert not cluster.healthy(SERVERS[0])
