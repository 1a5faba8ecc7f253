"""The client library against a gateway of the test's own making, on real sockets: drops, repeats, refusals."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from libs.client.client import Client
from libs.client.errors import GatewayUnreachable, RequestRefused, SearchFailed
from libs.common.frames import Accepted, AnyFrame, Completed, ErrorFrame, Pong, Summary, VideoFrame, encode_frame
from libs.common.messages import Kind, Reason, Video
from tests.wait import wait_until

Answer = Callable[[ServerConnection, dict[str, Any], int], Awaitable[None]]


def video(sequence: int) -> VideoFrame:
    found = Video(id=f"{sequence:032x}", url=f"https://v1.pinimg.com/{sequence}.mp4", kind=Kind.MP4, verified=True)
    return VideoFrame(session_id="s", sequence=sequence, video=found)


def completed(reason: Reason = Reason.LIMIT, message: str | None = None) -> Completed:
    summary = Summary(found=3, repeats=0, unavailable=0, items=3)
    return Completed(session_id="s", sequence=99, reason=reason, message=message, summary=summary)


async def send(connection: ServerConnection, *frames: AnyFrame) -> None:
    for frame in frames:
        await connection.send(encode_frame(frame))


@asynccontextmanager
async def gateway(answer: Answer) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """A gateway that answers each connection's first operation; also gives all operations it got."""
    got: list[dict[str, Any]] = []

    async def serve_one(connection: ServerConnection) -> None:
        first = json.loads(await connection.recv())
        got.append(first)
        await answer(connection, first, len(got))
        async for text in connection:
            got.append(json.loads(text))

    async with serve(serve_one, "127.0.0.1", 0, subprotocols=["pinstream.v1"]) as server:  # type: ignore[list-item]
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws", got


async def test_videos_come_as_an_asynchronous_iterator() -> None:
    async def answer(connection: ServerConnection, operation: dict[str, Any], _n: int) -> None:
        await send(connection, Accepted(session_id="s", sequence=1), video(2), video(3), Pong())
        await connection.send('{"event": "novelty", "session_id": "s"}')
        await send(connection, completed())

    async with gateway(answer) as (url, got):
        search = Client(url).search("pots", limit=7)
        assert [found.id async for found in search] == [f"{n:032x}" for n in (2, 3)]
        assert search.session_id == "s"
        assert search.completed is not None
    assert got == [{"operation": "initiate_extraction", "parameters": {"search_query": "pots", "result_limit": 7}}]


@pytest.mark.parametrize("code", [1001, 1011, 4008, 4012, None])
async def test_a_lost_connection_is_made_again_and_the_session_resumed(code: int | None) -> None:
    async def answer(connection: ServerConnection, operation: dict[str, Any], n: int) -> None:
        if n == 1:
            await send(connection, Accepted(session_id="s", sequence=1), video(2), video(3))
            if code is None:
                connection.transport.abort()
            else:
                await connection.close(code)
        else:
            await send(connection, video(3), video(4), completed())  # 3 once more: it must not be given twice

    async with gateway(answer) as (url, got):
        search = Client(url).search("pots", limit=3)
        found = [one.id async for one in search]
    assert found == [f"{n:032x}" for n in (2, 3, 4)]
    resumed = got[1]
    assert resumed["operation"] == "resume_extraction"
    assert resumed["parameters"]["session_id"] == "s"
    assert resumed["parameters"]["after"] <= 3


async def test_a_refusal_carries_the_field() -> None:
    async def answer(connection: ServerConnection, _operation: dict[str, Any], _n: int) -> None:
        refusal = ErrorFrame(code="invalid_request", field="parameters.result_limit", message="must be from 1")
        await send(connection, refusal)

    async with gateway(answer) as (url, _):
        with pytest.raises(RequestRefused) as refused:
            [found async for found in Client(url).search("pots", limit=0)]
    assert refused.value.field == "parameters.result_limit"


async def test_a_close_for_good_is_not_tried_again() -> None:
    async def answer(connection: ServerConnection, _operation: dict[str, Any], _n: int) -> None:
        await connection.close(4501, "token expired")

    async with gateway(answer) as (url, got):
        with pytest.raises(RequestRefused, match="token expired"):
            [found async for found in Client(url).search("pots")]
    assert len(got) == 1


async def test_a_failed_session_raises_after_all_that_was_found() -> None:
    async def answer(connection: ServerConnection, _operation: dict[str, Any], _n: int) -> None:
        end = completed(Reason.BLOCKED, "wait some hours")
        await send(connection, Accepted(session_id="s", sequence=1), video(2), end)

    async with gateway(answer) as (url, _):
        found = []
        with pytest.raises(SearchFailed, match="wait some hours") as failed:
            async for one in Client(url).search("pots"):
                found.append(one)
    assert len(found) == 1
    assert failed.value.reason is Reason.BLOCKED


async def test_leaving_early_cancels_the_session() -> None:
    async def answer(connection: ServerConnection, _operation: dict[str, Any], _n: int) -> None:
        await send(connection, Accepted(session_id="s", sequence=1), video(2))

    async with gateway(answer) as (url, got):
        async with Client(url).search("pots") as search:
            async for _found in search:
                break
        await wait_until(lambda: len(got) == 2, "the cancel arrived")
    assert got[1] == {"operation": "cancel_extraction", "parameters": {"session_id": "s"}}


async def test_no_gateway_is_a_typed_error(unused_port: int) -> None:
    with pytest.raises(GatewayUnreachable, match="pinstream up"):
        [found async for found in Client(f"ws://127.0.0.1:{unused_port}/ws").search("pots")]


async def test_a_gateway_that_only_drops_is_given_up_and_asked_no_more_than_twice() -> None:
    async def answer(connection: ServerConnection, _operation: dict[str, Any], _n: int) -> None:
        await connection.close(1011)

    async with gateway(answer) as (url, got):
        with pytest.raises(GatewayUnreachable):
            [found async for found in Client(url, reconnect_timeout_s=5).search("pots")]
    assert [operation["operation"] for operation in got] == ["initiate_extraction"] * 2


async def test_a_session_that_is_only_followed_is_not_cancelled_when_it_is_left() -> None:
    async def answer(connection: ServerConnection, _operation: dict[str, Any], _n: int) -> None:
        await send(connection, video(2))

    async with gateway(answer) as (url, got), Client(url).follow("s") as search:
        async for _found in search:
            break
    assert [operation["operation"] for operation in got] == ["resume_extraction"]


def pinstream(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, as a person would run it in a pipe."""
    command = [sys.executable, "-m", "libs.client.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ})


@pytest.mark.parametrize(
    ("format_", "lines"),
    [
        ("jsonl", 2),
        ("csv", 3),
        ("urls", 2),
        ("table", 3),
    ],
)
async def test_the_command_writes_each_format(format_: str, lines: int) -> None:
    async def answer(connection: ServerConnection, _operation: dict[str, Any], _n: int) -> None:
        await send(connection, Accepted(session_id="s", sequence=1), video(2), video(3), completed())

    async with gateway(answer) as (url, _):
        done = await asyncio.to_thread(pinstream, "search", "pots", "--url", url, "--format", format_)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= lines
    assert all(f"https://v1.pinimg.com/{n}.mp4" in done.stdout.replace("\n", "") for n in (2, 3))


async def test_the_commands_exit_codes_say_what_happened(unused_port: int) -> None:
    async def answer(connection: ServerConnection, operation: dict[str, Any], _n: int) -> None:
        if operation["parameters"]["result_limit"] == 0:
            await send(connection, ErrorFrame(code="invalid_request", field="parameters.result_limit", message="no"))
        else:
            await send(connection, Accepted(session_id="s", sequence=1), completed(Reason.UNREACHABLE, "no way"))

    async with gateway(answer) as (url, _):
        refused = await asyncio.to_thread(pinstream, "search", "pots", "--url", url, "--limit", "0")
        failed = await asyncio.to_thread(pinstream, "search", "pots", "--url", url)
    alone = await asyncio.to_thread(pinstream, "search", "pots", "--url", f"ws://127.0.0.1:{unused_port}/ws")
    usage = await asyncio.to_thread(pinstream, "search")
    assert (refused.returncode, failed.returncode, alone.returncode, usage.returncode) == (2, 1, 69, 2)
    assert "parameters.result_limit" in refused.stderr
    assert "unreachable: no way" in failed.stderr
    assert "pinstream up" in alone.stderr
    for done in (refused, failed, alone, usage):
        assert "Traceback" not in done.stderr


def test_the_doctor_names_what_is_missing_and_how_to_get_it(unused_port: int) -> None:
    done = pinstream("doctor", "--site", f"http://127.0.0.1:{unused_port}")
    assert done.returncode == 1
    for check in ("Python", "browser", "broker", "ports", "disk", "site"):
        assert check in done.stdout
    assert "Traceback" not in done.stderr
