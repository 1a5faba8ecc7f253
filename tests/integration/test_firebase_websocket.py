"""Firebase's protocol version 5, by frames as the SDK was seen to send them and to take them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from libs.common import subjects
from libs.common.messages import ProgressRecord, Reason
from libs.common.session_log import SessionLog
from services.gateway.callers import ANONYMOUS
from services.gateway.firebase.hashes import hash_of
from services.gateway.firebase.requests import new_push_id, session_of
from services.gateway.firebase.tree import key_of
from services.gateway.storage import NO_ROOM
from tests.integration.firebase_gateway import (
    FirebaseGateway,
    Names,
    WireClient,
    begin,
    firebase_gateway,
    give_key,
    wire,
)
from tests.integration.gateway_process import finish, give_many
from tests.wait import wait_until

BY_KEY = {"i": ".key"}


@pytest.fixture
async def gateway(log: SessionLog) -> AsyncIterator[FirebaseGateway]:
    async with firebase_gateway(log) as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: FirebaseGateway) -> AsyncIterator[WireClient]:
    async with wire(gateway) as client:
        yield client


async def value_of(client: WireClient, path: str, **query: Any) -> Any:
    answer = await client.ask("g", p=path, q=query)
    assert answer["s"] == "ok"
    return answer["d"]


def pushed(path: str, value: Any, action: str = "d", **more: Any) -> dict[str, Any]:
    return {"a": action, "b": {"p": path, "d": value, **more}}


async def test_the_first_frames_of_the_sdk_are_answered_as_recorded(
    client: WireClient, log: SessionLog, session: str
) -> None:
    await begin(log, session)
    await client.socket.send('{"t":"d","d":{"r":1,"a":"s","b":{"c":{"sdk.node.12-19-0":1}}}}')
    await client.socket.send(f'{{"t":"d","d":{{"r":2,"a":"q","b":{{"p":"/sessions/{session}/videos","h":""}}}}}}')
    assert await client.receive() == {"t": "d", "d": {"r": 1, "b": {"s": "ok", "d": ""}}}
    assert await client.data() == pushed(f"sessions/{session}/videos", None)
    assert await client.data() == {"r": 2, "b": {"s": "ok", "d": {}}}


async def test_a_listener_gets_each_video_under_its_sequence(client: WireClient, log: SessionLog, session: str) -> None:
    await begin(log, session)
    before = await give_key(log, session, 1)
    path = f"sessions/{session}/videos"
    (told,) = await client.listen(f"/{path}")
    assert told["b"]["p"] == path and list(told["b"]["d"]) == [before]
    assert told["b"]["d"][before]["url"] == "https://v1.pinimg.com/1.mp4"
    after = await give_key(log, session, 2)
    told = await client.data()
    assert (told["a"], told["b"]["p"]) == ("d", f"{path}/{after}")
    assert told["b"]["d"]["pin"] == {"id": "2", "title": ""}
    assert len(after) == len("v0000000042") and after > before


async def test_a_whole_session_tells_its_stats_and_its_end_by_merges(
    client: WireClient, log: SessionLog, session: str
) -> None:
    await begin(log, session)
    (told,) = await client.listen(f"/sessions/{session}")
    assert told["b"]["d"] == {
        "stats": {"found": 0, "repeats": 0, "unavailable": 0, "seen": 0, "filtered": 0, "pages": 0},
        "status": {"state": "queued"},
    }
    waiting = ProgressRecord(state="waiting", pages=1, waiting_for="the site", waiting_until=12.5)
    await log.put(session, subjects.PROGRESS, waiting)
    assert await client.data() == pushed(f"sessions/{session}/stats", {"pages": 1}, "m")
    status = {"state": "waiting", "waiting_for": "the site", "waiting_until": 12.5}
    assert await client.data() == pushed(f"sessions/{session}/status", status, "m")
    key = await give_key(log, session, 1)
    told = await client.data()
    assert told["b"]["p"] == f"sessions/{session}/videos/{key}"
    assert await client.data() == pushed(f"sessions/{session}/stats", {"found": 1}, "m")
    sequence = await finish(log, session, 1, Reason.EXHAUSTED)
    stats = await client.data()
    assert stats["b"]["p"] == f"sessions/{session}/stats" and stats["b"]["d"]["items"] == 1
    ended = {"state": "completed", "reason": "exhausted", "sequence": sequence}
    gone = {"waiting_for": None, "waiting_until": None}
    assert await client.data() == pushed(f"sessions/{session}/status", ended | gone, "m")
    assert await value_of(client, f"/sessions/{session}/status") == ended
    assert await value_of(client, f"/sessions/{session}/stats/found") == 1
    assert await value_of(client, f"/sessions/{session}/videos/{key}/url") == "https://v1.pinimg.com/1.mp4"


async def test_a_leaf_can_be_listened_to(client: WireClient, log: SessionLog, session: str) -> None:
    await begin(log, session)
    path = f"sessions/{session}/status/state"
    assert await client.listen(f"/{path}") == [pushed(path, "queued")]
    await log.put(session, subjects.PROGRESS, ProgressRecord(state="crawling", pages=1))
    assert await client.data() == pushed(path, "crawling")
    await finish(log, session, 0)
    assert await client.data() == pushed(path, "completed")


async def test_after_an_unlisten_nothing_comes(client: WireClient, log: SessionLog, session: str) -> None:
    await begin(log, session)
    path = f"/sessions/{session}/videos"
    await client.listen(path)
    assert await client.ask("n", p=path) == {"s": "ok", "d": ""}
    await give_key(log, session, 1)
    assert len(await value_of(client, path)) == 1  # and not what was pushed


async def test_start_after_a_key_resumes_from_a_sequence(client: WireClient, log: SessionLog, session: str) -> None:
    await begin(log, session)
    keys = [await give_key(log, session, n) for n in range(4)]
    path = f"sessions/{session}/videos"
    query = {"sp": keys[1], "sin": False, **BY_KEY}
    (told,) = await client.listen(f"/{path}", q=query, t=1)
    assert list(told["b"]["d"]) == keys[2:] and told["b"]["t"] == 1
    key = await give_key(log, session, 9)
    told = await client.data()
    assert (told["b"]["p"], told["b"]["t"]) == (f"{path}/{key}", 1)
    at = {"sp": keys[1], "sin": True, "ep": keys[2], "ein": False, **BY_KEY}
    assert list(await value_of(client, f"/{path}", **at)) == [keys[1]]


async def test_the_first_of_them_are_given_and_no_more(client: WireClient, log: SessionLog, session: str) -> None:
    await begin(log, session)
    first = await give_key(log, session, 1)
    path = f"sessions/{session}/videos"
    query = {"l": 2, "vf": "l", "sp": "a", "sin": False, **BY_KEY}  # as recorded
    (told,) = await client.listen(f"/{path}", q=query, t=2)
    assert list(told["b"]["d"]) == [first]
    second = await give_key(log, session, 2)
    assert (await client.data())["b"]["p"] == f"{path}/{second}"
    await give_key(log, session, 3)
    await wait_until_found(client, session, 3)


async def wait_until_found(client: WireClient, session: str, found: int) -> None:
    """The gateway has heard of so many, and pushed nothing of them."""
    while await value_of(client, f"/sessions/{session}/stats/found") != found:
        pass


async def test_the_last_of_them_push_out_those_before(client: WireClient, log: SessionLog, session: str) -> None:
    await begin(log, session)
    keys = [await give_key(log, session, n) for n in range(5)]
    path = f"sessions/{session}/videos"
    (told,) = await client.listen(f"/{path}", q={"l": 2, "vf": "r"}, t=3)
    assert list(told["b"]["d"]) == keys[3:]
    key = await give_key(log, session, 9)
    assert await client.data() == pushed(f"{path}/{keys[3]}", None, t=3)
    told = await client.data()
    assert (told["b"]["p"], told["b"]["t"]) == (f"{path}/{key}", 3)
    right = hash_of(await value_of(client, f"/{path}", l=2, vf="r"))
    assert await client.listen(f"/{path}", q={"l": 2, "vf": "r"}, t=4, h=right) == []


@pytest.mark.parametrize(
    "query", [{"i": "pin/title"}, {"i": ".value"}, {"sp": 3, "i": ".key"}, {"l": 0}, {"l": "1"}, 7]
)
async def test_a_query_that_is_not_answered_says_so(client: WireClient, session: str, query: Any) -> None:
    answer = await client.ask("q", p=f"/sessions/{session}/videos", q=query, t=1, h="")
    assert answer["s"] == "invalid_query"


async def test_a_tag_that_is_no_number_is_refused(client: WireClient, session: str) -> None:
    nested: Any = []
    for _ in range(900):
        nested = [nested]
    for action in ("q", "n"):
        answer = await client.ask(action, p=f"/sessions/{session}/videos", q={}, t=nested, h="")
        assert answer["s"] == "invalid_request"


async def test_a_listen_with_the_right_hash_costs_no_data(client: WireClient, log: SessionLog, session: str) -> None:
    await begin(log, session)
    await give_key(log, session, 1)
    for path in (f"/sessions/{session}/videos", f"/sessions/{session}", f"/sessions/{session}/status"):
        assert await client.listen(path, h=hash_of(await value_of(client, path))) == []


async def test_who_has_the_first_videos_is_given_the_others_only(
    client: WireClient, log: SessionLog, session: str
) -> None:
    await begin(log, session)
    path = f"sessions/{session}/videos"
    await give_key(log, session, 1)
    await give_key(log, session, 2)
    held = hash_of(await value_of(client, f"/{path}"))
    missed = [await give_key(log, session, 3), await give_key(log, session, 4)]
    told = await client.listen(f"/{path}", h=held)
    assert [each["b"]["p"] for each in told] == [f"{path}/{key}" for key in missed]
    assert [each["b"]["d"]["id"] for each in told] == [f"{n:032x}" for n in (3, 4)]
    wrong = await client.listen(f"/{path}", h="9jOFOewFpIx50VzBwf6trzfb6cg=")
    assert [(each["b"]["p"], len(each["b"]["d"])) for each in wrong] == [(path, 4)]


async def test_a_long_value_comes_in_segments(client: WireClient, log: SessionLog, session: str) -> None:
    await begin(log, session, limit=1000)
    sequences = await give_many(log, session, range(300), 300)
    path = f"sessions/{session}/videos"
    (told,) = await client.listen(f"/{path}")
    assert list(told["b"]["d"]) == [key_of(sequence) for sequence in sequences]
    assert list(await value_of(client, f"/{path}")) == list(told["b"]["d"])
    assert 30 < len(client.texts) < 45, "of eight videos each"
    key = await give_key(log, session, 999)
    assert (await client.data())["b"]["p"] == f"{path}/{key}"


async def test_a_client_may_send_in_segments_and_blank_ones(client: WireClient) -> None:
    text = json.dumps(
        {"t": "d", "d": {"r": 1, "a": "p", "b": {"p": "/cmd/big", "d": "ü" * 40_000}}}, ensure_ascii=False
    )
    segments = [text[at : at + 16384] for at in range(0, len(text), 16384)]
    for segment in (str(len(segments)), *segments, "0"):
        await client.socket.send(segment)
    assert await client.data() == {"r": 1, "b": {"s": "permission_denied", "d": "Permission denied"}}


async def test_a_ping_is_answered(client: WireClient) -> None:
    await client.socket.send('{"t":"c","d":{"t":"p","d":{}}}')
    assert await client.receive() == {"t": "c", "d": {"t": "o", "d": {}}}


@pytest.mark.parametrize("text", ["{", "[]", '{"t":"d","d":1}', '{"t":"x","d":{}}', "999999"])
async def test_what_is_no_message_ends_the_connection(client: WireClient, text: str) -> None:
    await client.socket.send(text)
    assert (await client.receive())["d"]["t"] == "e"
    with pytest.raises(ConnectionClosed):
        await client.receive()


async def test_a_message_without_end_ends_the_connection(client: WireClient) -> None:
    await client.socket.send("100")
    for _ in range(3):
        await client.socket.send("x" * 400_000)
    assert (await client.receive())["d"]["t"] == "e"


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("q", {"p": "/", "h": ""}),
        ("q", {"p": "/sessions", "h": ""}),
        ("q", {"p": "/requests", "h": ""}),
        ("q", {"p": "/forbidden", "h": ""}),
        ("g", {"p": "/sessions", "q": {}}),
        ("p", {"p": "/sessions/a/videos/v1", "d": 1}),
        ("p", {"p": "/requests", "d": {"search_query": "cats"}}),
        ("p", {"p": "/requests/cats", "d": {"search_query": "cats"}}),
        ("p", {"p": "/requests/-P74mYovVbRrJnhK8dfZ", "d": None}),
        ("p", {"p": "/requests/-P74mYovVbRrJnhK8dfZ", "d": {"search_query": "cats"}, "h": ""}),
        ("m", {"p": "/cmd/x", "d": {"status": "ok"}}),
        ("o", {"p": "/cmd/gone", "d": True}),
        ("om", {"p": "/cmd/gone", "d": {"a": True}}),
    ],
)
async def test_the_rest_of_the_tree_is_nobodys(client: WireClient, action: str, body: dict[str, Any]) -> None:
    assert await client.ask(action, **body) == {"s": "permission_denied", "d": "Permission denied"}


async def test_a_session_that_is_not_there_is_null(client: WireClient, session: str) -> None:
    for path in ("", "/videos", "/status/state", "/nothing"):
        assert await value_of(client, f"/sessions/{session}{path}") is None
    assert await client.listen(f"/sessions/{session}") == [pushed(f"sessions/{session}", None)]
    assert await value_of(client, "/sessions/no session, this/videos") is None


async def test_a_push_begins_a_session_and_tells_which(
    client: WireClient, gateway: FirebaseGateway, log: SessionLog
) -> None:
    push_id = new_push_id()
    path = f"requests/{push_id}"
    assert await client.listen(f"/{path}/session_id") == [pushed(f"{path}/session_id", None)]
    await client.send("p", p=f"/{path}", d={"search_query": " cats ", "result_limit": 7, "at": 1})
    echoed = await client.data()  # before the answer
    session = echoed["b"]["d"]
    assert echoed == pushed(f"{path}/session_id", session)
    assert (await client.data())["b"] == {"s": "ok", "d": ""}
    record = await log.get(session, subjects.REQUEST)
    assert record is not None
    assert await log.bus.last(subjects.SEARCHES, subjects.search(session)) is not None
    told = await value_of(client, f"/{path}")
    assert told.pop("requested_at") == record.message.request.requested_at  # type: ignore[attr-defined]
    assert told == {"session_id": session, "search_query": "cats", "result_limit": 7}
    async with wire(gateway) as other, firebase_gateway(log) as another, wire(another) as elsewhere:
        again = {"operation": "initiate_extraction", "parameters": {"search_query": "cats", "result_limit": 7}}
        assert await other.ask("p", p=f"/{path}", d=again) == {"s": "ok", "d": ""}
        assert await value_of(elsewhere, f"/{path}/session_id") == session
        different = await elsewhere.ask("p", p=f"/{path}", d={"search_query": "dogs"})
        assert different["s"] == "permission_denied"
    kept = await log.bus.last(subjects.RESULTS, subjects.record(session, subjects.REQUEST))
    assert kept is not None and kept.sequence == record.sequence


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"search_query": "cats", "result_limit": 0}, "result_limit must be from 1 to 10000, not 0"),
        ({"search_query": " "}, "search_query must not be empty"),
        (
            {"operation": "cancel_extraction", "parameters": {"session_id": "a"}},
            "operation must be initiate_extraction",
        ),
    ],
)
async def test_a_push_that_cannot_be_searched_says_why(client: WireClient, value: Any, sentence: str) -> None:
    push_id = new_push_id()
    answer = await client.ask("p", p=f"/requests/{push_id}", d=value)
    assert answer == {"s": "invalid_request", "d": sentence}
    assert await value_of(client, f"/requests/{push_id}") is None


async def test_tokens_say_whose_sessions_are_seen(log: SessionLog, session: str) -> None:
    names = Names(**{"token-of-mia": "mia", "key.of.noa": "noa"})
    await begin(log, session, owner="mia")
    path = f"/sessions/{session}/status/state"
    address = "v=5&ac=token-of-mia&ns=pvd"
    async with firebase_gateway(log, names, keep_alive_s=0.05) as gateway, wire(gateway, address) as client:
        assert await value_of(client, path) is None
        assert await client.ask("appcheck", token="token-of-mia") == {"s": "ok", "d": ""}
        assert await value_of(client, path) == "queued"
        assert await client.ask("auth", cred="key.of.noa") == {"s": "ok", "d": {"auth": {"uid": "noa"}}}
        assert await value_of(client, path) is None
        assert await client.ask("unauth") == {"s": "ok", "d": ""}
        assert await value_of(client, path) == "queued"
        assert await client.ask("unappeck") == {"s": "ok", "d": ""}
        assert await value_of(client, path) is None
        assert await client.ask("gauth", cred="owner") == {"s": "ok", "d": {}}  # of an SDK without a credential
        assert (await client.ask("gauth", cred="bad"))["s"] == "invalid_token"
        assert (await client.ask("gauth"))["s"] == "invalid_token"
        assert (await client.ask("gauth", cred="token-of-mia"))["s"] == "ok"
        names.revoke("token-of-mia")
        revoked = await client.data()
        assert (revoked["a"], revoked["b"]["s"]) == ("ac", "expired_token")
        with pytest.raises(ConnectionClosed):
            await client.data()


async def test_who_signs_in_later_is_given_what_was_hidden_and_who_signs_out_loses_it(
    log: SessionLog, session: str
) -> None:
    names = Names(a="mia", b="noa")
    await begin(log, session, owner="mia")
    path = f"sessions/{session}/status"
    async with firebase_gateway(log, names) as gateway, wire(gateway) as client:
        assert await client.listen(f"/{path}") == [pushed(path, None)]
        assert await client.listen(f"/sessions/{session}/videos", q=BY_KEY, t=5) != []
        number = await client.send("auth", cred="a")
        told = [await client.data() for _ in range(3)]
        assert pushed(path, {"state": "queued"}) in told
        assert pushed(f"sessions/{session}/videos", None, t=5) in told
        assert {"r": number, "b": {"s": "ok", "d": {"auth": {"uid": "mia"}}}} in told
        key = await give_key(log, session, 1)
        assert (await client.data())["b"]["p"] == f"sessions/{session}/videos/{key}"
        number = await client.send("unauth")
        told = [await client.data() for _ in range(3)]
        assert {"a": "c", "b": {"p": f"/{path}"}} in told
        assert {"a": "c", "b": {"p": f"/sessions/{session}/videos", "q": BY_KEY}} in told
        await give_key(log, session, 2)
        await finish(log, session, 2)
        names.revoke("a")  # it is no longer what the client acts by
        assert (await client.ask("s", c={}))["s"] == "ok"  # and nothing came before it
        assert await client.listen(f"/{path}") == [pushed(path, None)]


async def test_what_was_pushed_is_looked_at_as_whoever_signs_in(log: SessionLog) -> None:
    async with firebase_gateway(log, Names(a="mia", b="noa")) as gateway, wire(gateway) as client:
        path = f"requests/{new_push_id()}"
        await client.ask("auth", cred="a")
        assert (await client.ask("p", p=f"/{path}", d={"search_query": "cats"}))["s"] == "ok"
        (told,) = await client.listen(f"/{path}/search_query")
        assert told == pushed(f"{path}/search_query", "cats")
        await client.send("auth", cred="b")
        assert await client.data() == pushed(f"{path}/search_query", None)


async def test_trouble_with_the_storage_is_told_in_the_status(log: SessionLog, session: str) -> None:
    await begin(log, session)
    async with firebase_gateway(log) as gateway, wire(gateway) as client:
        storage = gateway.firebase.requests.storage
        path = f"sessions/{session}/status"
        assert await client.listen(f"/{path}") == [pushed(path, {"state": "queued"})]
        storage._found(NO_ROOM)
        storage._found(NO_ROOM)
        waiting = {"state": "waiting", "waiting_for": NO_ROOM}
        assert await client.data() == pushed(path, waiting, "m")
        assert await value_of(client, f"/{path}") == waiting
        storage._found(None)
        assert await client.data() == pushed(path, {"state": "queued", "waiting_for": None}, "m")
        assert await client.ask("n", p=f"/{path}") == {"s": "ok", "d": ""}


async def test_a_push_whose_session_is_half_gone_is_refused(client: WireClient, log: SessionLog) -> None:
    push_id = new_push_id()
    await give_key(log, session_of(ANONYMOUS, push_id), 1)  # the request is the oldest record, and goes first
    answer = await client.ask("p", p=f"/requests/{push_id}", d={"search_query": "cats"})
    assert (answer["s"], "no longer kept" in answer["d"]) == ("permission_denied", True)


async def test_a_gateway_without_keys_takes_no_tokens(client: WireClient) -> None:
    assert await client.ask("auth", cred="a.b.c") == {"s": "invalid_token", "d": "this gateway takes no tokens"}
    assert (await client.ask("auth", cred="owner"))["s"] == "ok"


async def test_a_push_belongs_to_who_made_it(log: SessionLog) -> None:
    push_id = new_push_id()
    async with firebase_gateway(log, Names(a="mia", b="noa")) as gateway, wire(gateway) as client:
        sessions = []
        for token in ("a", "b"):
            await client.ask("auth", cred=token)
            assert (await client.ask("p", p=f"/requests/{push_id}", d={"search_query": token}))["s"] == "ok"
            sessions.append(await value_of(client, f"/requests/{push_id}/session_id"))
        assert sessions[0] != sessions[1]
        assert await value_of(client, f"/sessions/{sessions[0]}") is None
        assert await value_of(client, f"/sessions/{sessions[1]}/status/state") == "queued"


async def test_a_connection_listens_to_so_many_places(client: WireClient, session: str) -> None:
    for n in range(8):
        await client.listen(f"/sessions/{session}/videos/v{n}")
    assert (await client.ask("q", p=f"/sessions/{session}", h=""))["s"] == "too_many_listens"
    await client.ask("n", p=f"/sessions/{session}/videos/v0")
    await client.listen(f"/sessions/{session}")


async def test_a_listener_hears_that_its_session_is_no_longer_kept(
    client: WireClient, log: SessionLog, session: str
) -> None:
    await begin(log, session)
    await give_key(log, session, 1)
    await client.listen(f"/sessions/{session}/videos", q={"l": 5, "vf": "l"}, t=1)
    await log.bus.purge(subjects.RESULTS, subjects.records_of(session))
    revoked = {"a": "c", "b": {"p": f"/sessions/{session}/videos", "q": {"l": 5, "vf": "l"}}}
    assert await client.data() == revoked


async def test_a_gateway_that_stops_closes_its_clients_and_begins_nothing(
    gateway: FirebaseGateway, client: WireClient
) -> None:
    gateway.firebase.requests.draining = True
    answer = await client.ask("p", p=f"/requests/{new_push_id()}", d={"search_query": "cats"})
    assert answer["s"] == "unavailable"
    await gateway.firebase.drain()
    with pytest.raises(ConnectionClosed) as closed:
        await client.receive()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
    await wait_until(lambda: not gateway.firebase.connections, "it is gone")


async def test_there_is_no_long_polling(gateway: FirebaseGateway) -> None:
    reader, writer = await asyncio.open_connection(*gateway.address.split(":"))
    writer.write(b"GET /.lp?start=t HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 404")
    writer.close()
    await writer.wait_closed()
