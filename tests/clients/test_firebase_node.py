"""npm `firebase` and `firebase-admin`, as they are, at a gateway that is a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.common import keys
from libs.common.session_log import SessionLog
from services.gateway.firebase.tree import key_of
from tests.clients.client_process import SEEN_S, ClientProcess, node_client
from tests.clients.conftest import Origin, Spare
from tests.clients.tls_front import tls_front
from tests.integration.access import guarded
from tests.integration.firebase_gateway import Names, begin, firebase_gateway
from tests.integration.gateway_process import finish, give, give_many
from tests.wait import wait_until

KINDS = ["firebase", "admin"]


async def sees(client: ClientProcess, keys: list[str]) -> None:
    """Returns when it was told of so many children; fails unless it is these, in this order, each once."""
    await wait_until(lambda: len(client.added) >= len(keys), f"{len(keys)} children", SEEN_S)
    assert client.added == keys


@pytest.mark.parametrize("gently", [False, True], ids=["killed", "stopped"])
async def test_children_are_added_once_each_across_a_restart(
    origin: Origin, log: SessionLog, session: str, gently: bool
) -> None:
    await begin(log, session, limit=1000)
    sequences = await give_many(log, session, range(40), 2000)
    path = f"sessions/{session}/videos"
    async with node_client("firebase", origin.url) as one, node_client("admin", origin.url) as other:
        clients = (one, other)

        async def all_see(count: int) -> None:
            await wait_until(lambda: all(len(each.added) >= count for each in clients), f"{count} children", SEEN_S)

        for client in clients:
            await client.tell("listen", path=path)
            await client.tell("watch", path=f"sessions/{session}/status")
        await all_see(40)
        sequences.append(await give(log, session, 100))
        await all_see(41)
        await origin.replace(gently=gently)
        sequences += await give_many(log, session, range(200, 240), 2000)
        await all_see(81)
        sequences.append(await give(log, session, 300))
        end = await finish(log, session, 82)
        ended = {"state": "completed", "reason": "limit", "sequence": end}
        for client in clients:
            await wait_until(lambda seen=client: seen.of("value")[-1:] == [ended], "the end", SEEN_S)  # type: ignore[misc]
            await sees(client, [key_of(sequence) for sequence in sequences])
            ids = [line["id"] for line in client.seen if "added" in line]
            assert sorted(ids) == [f"{n:032x}" for n in (*range(40), 100, *range(200, 240), 300)]
            assert client.of("removed") == client.of("refused") == []
            assert list(await client.ask("get", "got", path=path)) == client.added
            whole = await client.ask("get", "got", path=f"sessions/{session}")
            assert whole["stats"]["found"] == 82 and list(whole["videos"]) == client.added


@pytest.mark.parametrize("kind", KINDS)
async def test_a_push_begins_a_session_that_is_known_after_a_restart(spare: Spare, log: SessionLog, kind: str) -> None:
    async with node_client(kind, spare.url) as client:
        pushed = await client.ask("push", "pushed", value={"search_query": "cats", "result_limit": 2})
        session = await client.ask("get", "got", path=f"requests/{pushed}/session_id")
        await client.tell("listen", path=f"sessions/{session}/videos")
        key = key_of(await give(log, session, 1))
        await sees(client, [key])
        await spare.replace()
        assert await client.ask("get", "got", path=f"requests/{pushed}/session_id") == session
        await sees(client, [key, key_of(await give(log, session, 2))])
        refused = await client.ask("push", "refused", value={"search_query": "cats", "result_limit": 0})
        assert "result_limit must be from 1 to 10000" in refused
        for path in (f"sessions/{session}/videos/v1", "requests/cats", "cmd/x"):
            assert "permission_denied" in (await client.ask("set", "refused", path=path, value=1)).lower()
        assert "permission" in (await client.ask("get", "refused", path="sessions")).lower()


@pytest.mark.parametrize("kind", KINDS)
async def test_queries_select_by_key(spare: Spare, log: SessionLog, session: str, kind: str) -> None:
    await begin(log, session)
    keys = [key_of(await give(log, session, n)) for n in range(5)]
    path = f"sessions/{session}/videos"
    async with node_client(kind, spare.url) as client:
        for query, expected in (
            ({"startAfter": keys[2]}, keys[3:]),
            ({"startAt": keys[1], "limitToFirst": 2}, keys[1:3]),
            ({"limitToLast": 2}, keys[3:]),
            ({"endBefore": keys[1]}, keys[:1]),
        ):
            assert list(await client.ask("get", "got", path=path, query=query) or ()) == expected
        await client.tell("listen", path=path, query={"limitToLast": 2})
        await sees(client, keys[3:])
        await spare.replace()
        key = key_of(await give(log, session, 9))
        await sees(client, [*keys[3:], key])
        assert client.of("removed") == [keys[3]]
    async with node_client(kind, spare.url) as resumed:
        await resumed.tell("listen", path=path, query={"startAfter": keys[-1]})
        await sees(resumed, [key])


async def test_tokens_come_in_the_ways_of_the_sdk_and_stay_out_of_the_log(
    log: SessionLog, session: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    await begin(log, session, owner="mia")
    claims = "eyJhbGciOiJub25lIn0.eyJ1aWQiOiJhIiwiaWF0IjoxNzAwMDAwMDAwfQ."
    given = {"appcheck": "our-secret-key", "emulator": claims, "admin": "our-secret-token"}
    names = Names(**dict.fromkeys(given.values(), "mia"))
    async with firebase_gateway(log, names) as gateway, tls_front(gateway.address, tmp_path) as (secure, authority):
        for kind, token in given.items():
            origin = secure if kind == "admin" else gateway.url
            async with node_client(kind, origin, token, NODE_EXTRA_CA_CERTS=authority) as client:
                assert await client.ask("get", "got", path=f"sessions/{session}/status/state") == "queued", kind
        async with node_client("admin", gateway.url) as client:
            assert await client.ask("get", "got", path=f"sessions/{session}/status/state") is None
    said = "".join(capfd.readouterr())
    assert not [token for token in given.values() if token in said]


async def test_what_is_beyond_the_limits_is_told_to_the_caller(log: SessionLog) -> None:
    async with guarded(log, requests_per_minute=0.06, message_max_bytes=20_000) as gateway:
        made = await keys.create(gateway.access.keyring.bus, "test", owner="ann")
        await wait_until(lambda: gateway.access.keyring.key(made.text) is not None, "the gateway knows the key")
        async with node_client("appcheck", f"http://{gateway.address}", made.text) as client:
            wanted = {"search_query": "cats", "result_limit": 2}
            for padding in ("ü" * 15_000, "x" * 50_000):
                refused = await client.ask("push", "refused", value={**wanted, "padding": padding})
                assert "a message has at most 20000 bytes" in refused
            pushed = await client.ask("push", "pushed", value=wanted)
            assert "this key asks too often" in await client.ask("push", "refused", value=wanted)
            assert await client.ask("get", "got", path=f"requests/{pushed}/search_query") == "cats"
