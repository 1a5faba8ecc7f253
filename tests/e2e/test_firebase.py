"""The whole system with Firebase's genuine client: pushed, crawled, listened to, and the gateway killed meanwhile."""

from __future__ import annotations

import msgspec
import pytest

from libs.common.messages import Video
from tests.clients.client_process import node_client
from tests.e2e.answer import assert_right
from tests.e2e.conftest import Stack
from tests.fake_pinterest import expected_results
from tests.wait import wait_until


@pytest.mark.timeout(300)
async def test_a_pushed_search_gives_its_exact_set_across_a_killed_gateway(stack_of: Stack) -> None:
    stack = await stack_of(restart=True)
    query = "bowls pins:96 size:8 seed:firebase latency:400"
    async with node_client("firebase", stack.page_url.rstrip("/")) as client:
        pushed = await client.ask("push", "pushed", value={"search_query": query, "result_limit": 5000})
        session = await client.ask("get", "got", path=f"requests/{pushed}/session_id")
        await client.tell("listen", path=f"sessions/{session}/videos")
        await client.tell("watch", path=f"sessions/{session}/status/state")
        await wait_until(lambda: len(client.added) >= 3, "it is in the middle", 90)
        assert "completed" not in client.of("value")
        gateway = stack.processes("gateway")[0]
        stack.kill("gateway", 0)
        await wait_until(lambda: gateway.restarts == 1, "the gateway is started anew", 30)
        await wait_until(lambda: "completed" in client.of("value"), "the session ends", 120)
        held = await client.ask("get", "got", path=f"sessions/{session}")
        await wait_until(lambda: len(client.added) >= held["stats"]["found"], "all children")
        assert client.added == list(held["videos"])
        assert client.of("removed") == client.of("refused") == []
        assert held["status"]["reason"] == "exhausted"
        assert_right([msgspec.convert(video, Video) for video in held["videos"].values()], expected_results(query))
