"""PyPI `firebase-admin` and `pyrebase4`, as they are: REST, and streams of events."""

from __future__ import annotations

from typing import Any

import pytest

from libs.common.session_log import SessionLog
from services.gateway.firebase.tree import key_of
from tests.clients.client_process import SEEN_S, ClientProcess, python_client
from tests.clients.conftest import Origin, Spare
from tests.integration.firebase_gateway import begin
from tests.integration.gateway_process import finish, give, give_many
from tests.wait import wait_until

KINDS = ["admin", "pyrebase"]


class Tree:
    """What a client's events add up to; each child that was put by itself, in order."""

    def __init__(self, client: ClientProcess) -> None:
        self.children: dict[str, Any] = {}
        self.put: list[str] = []
        self.wholes = 0
        for line in client.seen:
            if line.get("event") != "put":
                continue
            if line["path"] == "/":
                self.wholes += 1
                self.children = dict(line["data"] or {})
            else:
                key = line["path"].removeprefix("/")
                assert key not in self.children, f"{key} is told twice"
                self.put.append(key)
                self.children[key] = line["data"]


async def test_a_stream_has_each_video_once_across_a_restart(origin: Origin, log: SessionLog, session: str) -> None:
    await begin(log, session, limit=1000)
    sequences = await give_many(log, session, range(20), 200)
    async with python_client("admin", origin.url) as one, python_client("pyrebase", origin.url) as other:
        clients = (one, other)

        async def all_have(count: int) -> None:
            def have() -> bool:
                return all(len(Tree(each).children) >= count for each in clients)

            await wait_until(have, f"{count} children", SEEN_S)

        for client in clients:
            await client.tell("listen", path=f"sessions/{session}/videos")
        await all_have(20)
        sequences.append(await give(log, session, 100))
        await all_have(21)
        await origin.replace()
        sequences += await give_many(log, session, range(200, 220), 200)
        await all_have(41)
        sequences.append(await give(log, session, 300))
        await all_have(42)
        await finish(log, session, 42)
        for client in clients:
            tree = Tree(client)
            assert list(tree.children) == [key_of(sequence) for sequence in sequences]
            ids = sorted(child["id"] for child in tree.children.values())
            assert ids == [f"{n:032x}" for n in (*range(20), 100, *range(200, 220), 300)]
            assert tree.wholes == 2, "what is there comes anew with the second stream"
            assert tree.put[0] == key_of(sequences[20]) and tree.put[-1] == key_of(sequences[-1])
            got = await client.ask("get", "got", path=f"sessions/{session}")
            assert (got["stats"]["found"], got["status"]["state"]) == (42, "completed")
            assert list(got["videos"]) == list(tree.children)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_push_begins_a_session_that_is_known_after_a_restart(spare: Spare, log: SessionLog, kind: str) -> None:
    async with python_client(kind, spare.url) as client:
        pushed = await client.ask("push", "pushed", value={"search_query": "cats", "result_limit": 2})
        session = await client.ask("get", "got", path=f"requests/{pushed}/session_id")
        await spare.replace()
        assert await client.ask("get", "got", path=f"requests/{pushed}/session_id") == session
        keys = [key_of(await give(log, session, n)) for n in range(3)]
        path = f"sessions/{session}/videos"
        assert list(await client.ask("get", "got", path=path, query={"start_at": keys[1]})) == keys[1:]
        assert list(await client.ask("get", "got", path=path, query={"limit_to_last": 1})) == keys[2:]
        refused = await client.ask("push", "refused", value={"search_query": "cats", "result_limit": 0})
        assert "result_limit must be from 1 to 10000" in refused
        for path in (f"sessions/{session}/videos/v1", "requests/cats", "cmd/x"):
            assert "Permission denied" in await client.ask("set", "refused", path=path, value=1)
