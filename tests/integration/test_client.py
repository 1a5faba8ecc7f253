"""The client library against a gateway of the test's own making, on real sockets: drops, repeats, refusals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from websockets.asyncio.server import ServerConnection, serve

from libs.client.client import Client
from libs.client.errors import GatewayUnreachable, RequestRefused, SearchFailed
from libs.client.status import PATH, in_loop
from libs.common.frames import (
    Accepted,
    AnyFrame,
    Completed,
    ErrorFrame,
    Pong,
    Progress,
    Summary,
    VideoFrame,
    encode_frame,
)
from libs.common.health import http_server, listen
from libs.common.messages import Kind, Reason, Video
from tests.unit.client.test_status import document, replica
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


async def test_an_address_is_asked_for_instead_of_a_topic() -> None:
    async def answer(connection: ServerConnection, operation: dict[str, Any], _n: int) -> None:
        await send(connection, Accepted(session_id="s", sequence=1), completed())

    async with gateway(answer) as (url, got):
        assert [found async for found in Client(url).search(url="https://pin.it/abc", limit=7)] == []
    assert got[0]["parameters"] == {"url": "https://pin.it/abc", "result_limit": 7}
    for topic, address in ((None, None), ("pots", "https://pin.it/abc")):
        with pytest.raises(TypeError, match="a topic or a url"):
            Client(url).search(topic, url=address)


async def test_what_is_found_can_be_posted_too() -> None:
    async def answer(connection: ServerConnection, operation: dict[str, Any], _n: int) -> None:
        await send(connection, Accepted(session_id="s", sequence=1, webhook_secret="whsec_x"), completed())

    async with gateway(answer) as (url, got):
        search = Client(url).search("pots", callback_url="https://receiver.example/")
        assert [found async for found in search] == []
    assert got[0]["parameters"]["callback_url"] == "https://receiver.example/"
    assert search.webhook_secret == "whsec_x"


@pytest.mark.parametrize("code", [1001, 1011, 4000, 4008, 4012, 4099, 4499, None])  # known or not
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


@pytest.mark.parametrize("code", [4500, 4501, 4599, 4999])  # known or not
async def test_a_close_for_good_is_not_tried_again(code: int) -> None:
    async def answer(connection: ServerConnection, _operation: dict[str, Any], _n: int) -> None:
        await connection.close(code, "token expired")

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


UNAVAILABLE = ErrorFrame(session_id="s", code="unavailable", message="the disk may be full", retry_after_s=5.0)
WAITING = Progress(session_id="s", found=0, repeats=0, unavailable=0, state="waiting", waiting_for="the disk")
CRAWLING = Progress(session_id="s", found=0, repeats=0, unavailable=0, state="crawling")


async def whole(connection: ServerConnection, _operation: dict[str, Any], _n: int) -> None:
    await send(connection, Accepted(session_id="s", sequence=1), video(2), video(3), completed())


async def test_of_several_gateways_the_first_that_is_there_is_used(unused_port: int) -> None:
    async with gateway(whole) as (url, _):
        for urls in (f"ws://127.0.0.1:{unused_port}/ws, {url}", (f"ws://127.0.0.1:{unused_port}/ws", url)):
            search = Client(urls).search("pots")
            assert len([found async for found in search]) == 2
            assert search.reconnects == 0
    with pytest.raises(GatewayUnreachable, match="pinstream up"):
        [
            found
            async for found in Client(f"ws://127.0.0.1:{unused_port}/ws,ws://127.0.0.2:{unused_port}/ws").search("pots")
        ]
    with pytest.raises(ValueError, match="address"):
        Client(" , ")


async def test_a_session_goes_on_at_the_next_gateway_where_one_is_lost() -> None:
    async def dies(connection: ServerConnection, _operation: dict[str, Any], _n: int) -> None:
        await send(connection, Accepted(session_id="s", sequence=1), video(2))
        connection.transport.abort()

    async with gateway(dies) as (one, got_one), gateway(whole) as (two, got_two):
        assert [found.id async for found in Client(f"{one},{two}").search("pots")] == [f"{n:032x}" for n in (2, 3)]
    assert [operation["operation"] for operation in got_one] == ["initiate_extraction"]
    assert got_two[0]["operation"] == "resume_extraction"
    assert got_two[0]["parameters"]["after"] <= 2  # less where the last frame died with its connection


async def test_a_search_that_a_stopping_gateway_does_not_take_is_asked_of_the_next() -> None:
    async def stops(connection: ServerConnection, _operation: dict[str, Any], _n: int) -> None:
        await send(connection, ErrorFrame(code="draining", message="about to stop", retry_after_s=1.0))

    async with gateway(stops) as (one, got_one), gateway(whole) as (two, got_two):
        assert len([found async for found in Client(f"{one},{one},{one},{two}").search("pots")]) == 2
    assert [operation["operation"] for operation in got_one] == ["initiate_extraction"] * 3
    assert [operation["operation"] for operation in got_two] == ["initiate_extraction"]


async def test_a_session_that_is_held_up_is_waited_for() -> None:
    async def held_up(connection: ServerConnection, _operation: dict[str, Any], _n: int) -> None:
        await send(connection, Accepted(session_id="s", sequence=1), WAITING, UNAVAILABLE, UNAVAILABLE)
        await told.wait()
        await send(connection, CRAWLING, video(2), completed())

    told = asyncio.Event()
    async with gateway(held_up) as (url, got):
        search = Client(url).search("pots")
        kinds = []
        async for frame in search.frames():
            kinds.append(type(frame).__name__)
            if kinds[-1] == "ErrorFrame":
                assert search.trouble == "the disk may be full"
                told.set()
        assert kinds == ["Accepted", "Progress", "ErrorFrame", "ErrorFrame", "Progress", "VideoFrame", "Completed"]
        assert search.trouble is None
    assert len(got) == 1


async def test_a_session_that_is_held_up_too_long_is_given_up_with_the_reason() -> None:
    async def held_up(connection: ServerConnection, _operation: dict[str, Any], _n: int) -> None:
        await send(connection, Accepted(session_id="s", sequence=1), WAITING, UNAVAILABLE)

    async with gateway(held_up) as (url, _):
        with pytest.raises(GatewayUnreachable, match=r"held up for 0\.3 s: the disk may be full"):
            [found async for found in Client(url, unavailable_timeout_s=0.3).search("pots")]


@pytest.mark.parametrize("code", ["expired", "unknown_session", "unknown_sequence", "too_many_sessions"])
async def test_a_session_that_cannot_be_resumed_is_a_refusal(code: str) -> None:
    async def answer(connection: ServerConnection, _operation: dict[str, Any], _n: int) -> None:
        await send(connection, ErrorFrame(session_id="s", code=code, field="parameters.after", message="no"))

    async with gateway(answer) as (url, _):
        with pytest.raises(RequestRefused) as refused:
            [found async for found in Client(url).follow("s", after=7)]
    assert (refused.value.code, refused.value.field) == (code, "parameters.after")


async def test_a_cancel_is_asked_again_until_it_is_done() -> None:
    async def answer(connection: ServerConnection, _operation: dict[str, Any], n: int) -> None:
        if n == 1:
            connection.transport.abort()
        elif n == 2:
            await send(connection, WAITING, ErrorFrame(code="unavailable", message="no", retry_after_s=0.05))
        else:
            await send(connection, completed(Reason.CANCELLED))

    async with gateway(answer) as (url, got):
        await Client(url).cancel("s")
    assert [operation["operation"] for operation in got] == ["cancel_extraction"] * 3

    async def never(connection: ServerConnection, _operation: dict[str, Any], _n: int) -> None:
        await send(connection, ErrorFrame(code="unavailable", message="the disk may be full", retry_after_s=0.05))

    async with gateway(never) as (url, _):
        with pytest.raises(GatewayUnreachable, match="the disk may be full"):
            await Client(url, reconnect_timeout_s=0.5).cancel("s")


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


def test_a_bad_setting_is_named_by_the_doctor_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM_PROXY", "[/proxy]")
    done = pinstream("doctor")
    assert (done.returncode, done.stderr, "'[/proxy]'" in done.stdout) == (1, "", True)


@asynccontextmanager
async def status_of(found: dict[str, Any]) -> AsyncIterator[tuple[str, list[Request]]]:
    """A gateway that tells this of the whole; also gives the requests that it got."""
    asked: list[Request] = []

    async def status(request: Request) -> JSONResponse:
        asked.append(request)
        return JSONResponse(found)

    sock = listen("127.0.0.1", 0)
    async with http_server(Starlette(routes=[Route(PATH, status)]), sock):
        yield f"ws://127.0.0.1:{sock.getsockname()[1]}/ws", asked


async def test_in_a_pipe_the_status_is_shown_whole() -> None:
    found = document()
    error = {"message": "the CDN does not answer " * 9, "at": found["now"]}
    found["services"][0]["replicas"] = [replica("transformer-6d5f7c9b8f-abcde", last_error=error)]
    async with status_of(found) as (url, _):
        done = await asyncio.to_thread(pinstream, "status", "--url", url)
    row = next(line for line in done.stdout.splitlines() if "transformer-6d5f7c9b8f-abcde" in line)
    assert all(fact in row for fact in ("61 MB", "3 h", "0.1.0", error["message"].strip()))


async def test_the_status_is_watched_until_a_signal_also_where_loops_take_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise NotImplementedError  # as Windows' loops do

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    async with status_of(document()) as (url, asked):
        monkeypatch.setattr(asyncio.get_running_loop(), "add_signal_handler", refuse)
        watching = asyncio.create_task(in_loop(url, watch=True, as_json=True, api_key=None))
        try:
            await wait_until(lambda: len(asked) >= 2 or watching.done(), "it is asked again")
            assert not watching.done()
            os.kill(os.getpid(), signal.SIGTERM)
            assert await watching == 0
        finally:
            watching.cancel()
            for number, handler in before.items():
                signal.signal(number, handler)
    assert capsys.readouterr().out
