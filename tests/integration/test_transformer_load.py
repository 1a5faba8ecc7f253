"""Verification under the load of 50 sessions: pooled, bounded, and never held up by a CDN that is down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from libs.common.bus import Bus, connect
from libs.common.messages import DirectMedia, Kind, RawMedia, Video
from libs.common.settings import Settings
from services.transformer.resolver import Resolver
from services.transformer.settings import TransformerSettings
from tests.integration.http2_cdn import running_http2_cdn
from tests.integration.transformer_cdn import Cdn, file, master, path, raw, running_cdn
from tests.wait import wait_for, wait_until

SESSIONS = 50
PATIENT: dict[str, Any] = {"request_timeout_s": 10.0, "item_timeout_s": 60.0}  # where nothing is to time out
WIDGETS = "/v3/pidgets/pins/info/"
RESOURCE = "/resource/PinResource/get/"


@pytest.fixture
async def cdn() -> AsyncIterator[Cdn]:
    async with running_cdn() as cdn:
        yield cdn


def signature(n: int) -> str:
    return f"{n:032x}"


def item(cdn: Cdn, n: int) -> RawMedia:
    """One that lists a playlist and a file."""
    urls = (cdn.url("iht", "hls", ".m3u8", signature(n)), cdn.url("iht", "expMp4", "_720w.mp4", signature(n)))
    return raw(*urls, pin=str(n), signature=signature(n))


def stream_only(cdn: Cdn, n: int) -> RawMedia:
    """One of which there is a playlist and no file that could be guessed."""
    cdn.answers[path("iht", "hls", ".m3u8", signature(n))] = master(720, signature=signature(n))
    return raw(cdn.url("iht", "hls", ".m3u8", signature(n)), pin=str(n), signature=signature(n))


def video(direct: DirectMedia) -> Video:
    assert direct.video is not None, direct.unavailable
    return direct.video


async def resolved(resolver: Resolver, items: list[RawMedia]) -> list[Video]:
    return [video(direct) for direct in await asyncio.gather(*map(resolver.resolve, items))]


async def refuse(request: Request) -> Response:
    return Response(status_code=503)


async def hang(request: Request) -> Response:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("fault", [refuse, hang])
async def test_a_cdn_that_is_down_or_too_slow_is_soon_left_alone_and_every_video_goes_out_unverified(
    cdn: Cdn, fault: Any
) -> None:
    items = [item(cdn, n) for n in range(SESSIONS * 20)]
    for one in items:
        cdn.answers |= {variant.url.removeprefix(cdn.origin): fault for variant in one.variants}
    async with Resolver(cdn.settings(request_timeout_s=0.3)) as resolver:
        videos = await resolved(resolver, items[:SESSIONS])
        asked = len(cdn.asked)
        videos += await resolved(resolver, items[SESSIONS:])
    assert [one.id for one in videos] == [one.signature for one in items]
    best = [one.variants[1].url for one in items]
    assert [(one.url, one.kind, one.verified) for one in videos] == [(url, Kind.MP4, False) for url in best]
    assert len(cdn.asked) - asked < SESSIONS


async def test_a_host_that_answers_too_slowly_for_all_verifies_some_and_the_others_do_not_wait(cdn: Cdn) -> None:
    async def slowly(request: Request) -> Response:
        await asyncio.sleep(2.6)
        return await file(request)

    items = [item(cdn, n) for n in range(SESSIONS * 4)]
    for one in items:
        cdn.answers[one.variants[1].url.removeprefix(cdn.origin)] = slowly
    async with Resolver(cdn.settings(request_timeout_s=3.2, item_timeout_s=60.0)) as resolver:
        videos = await resolved(resolver, items)
    assert [one.url for one in videos] == [one.variants[1].url for one in items]
    assert 0 < sum(one.verified for one in videos) <= len(cdn.asked) < len(items) / 2


async def test_a_host_that_is_back_is_asked_again(cdn: Cdn) -> None:
    items = [item(cdn, n) for n in range(SESSIONS)]
    for one in items:
        cdn.answers |= {variant.url.removeprefix(cdn.origin): refuse for variant in one.variants}
    async with Resolver(cdn.settings(unsettled_ttl_s=0.0, **PATIENT)) as resolver:
        assert not any(one.verified for one in await resolved(resolver, items))
        for one in items:
            cdn.answers[one.variants[1].url.removeprefix(cdn.origin)] = file

        async def verified() -> bool:
            return video(await resolver.resolve(items[0])).verified

        await wait_for(verified, "a trial found it well")
        assert all(one.verified for one in await resolved(resolver, items))


async def test_a_dead_host_holds_up_no_video_of_another(cdn: Cdn) -> None:
    async with AsyncExitStack() as running:
        dead = [await running.enter_async_context(running_cdn()) for _ in range(2)]
        lost = [item(dead[n % 2], n) for n in range(2 * SESSIONS)]
        for one in lost:
            for variant in one.variants:
                origin, slash, rest = variant.url.partition("/videos/")
                next(host for host in dead if host.origin == origin).answers[slash + rest] = hang
        for n in range(SESSIONS):
            cdn.answers[path("iht", "expMp4", "_720w.mp4", signature(1000 + n))] = file
        hosts = tuple(host.origin.removeprefix("http://") for host in (cdn, *dead))
        async with Resolver(cdn.settings(media_hosts=hosts, request_timeout_s=30.0, item_timeout_s=60.0)) as resolver:
            waiting = [asyncio.create_task(resolver.resolve(one)) for one in lost]
            try:
                await wait_until(lambda: all(host.asked for host in dead), "the dead hosts were asked")
                videos = await resolved(resolver, [item(cdn, 1000 + n) for n in range(SESSIONS)])
                assert all(one.verified for one in videos)
                assert not any(task.done() for task in waiting)
            finally:
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)


async def test_no_more_requests_are_under_way_at_a_host_than_its_bound_and_their_connections_are_kept(
    cdn: Cdn,
) -> None:
    under_way, most, connections = 0, 0, set()

    async def counted(request: Request) -> Response:
        nonlocal under_way, most
        assert request.client is not None
        connections.add(request.client.port)
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return await file(request)

    for n in range(200):
        cdn.answers[path("iht", "expMp4", "_720w.mp4", signature(n))] = counted
    async with Resolver(cdn.settings(probes_per_host=5, **PATIENT)) as resolver:
        assert all(one.verified for one in await resolved(resolver, [item(cdn, n) for n in range(200)]))
    assert len(cdn.asked) == 200
    assert most <= 5
    assert len(connections) <= 5


async def test_http_2_is_spoken_where_the_cdn_has_it_over_one_connection(tmp_path: Path) -> None:
    async with running_http2_cdn(tmp_path) as cdn:
        settings = TransformerSettings(
            site_url=cdn.origin,
            media_hosts=(f"127.0.0.1:{cdn.port}",),
            upstream_ca_file=cdn.ca_file,
            probes_per_host=8,
            request_timeout_s=10.0,
        )
        urls = [f"{cdn.origin}{path('iht', 'expMp4', '_720w.mp4', signature(n))}" for n in range(SESSIONS)]
        async with Resolver(settings) as resolver:
            cdn.go.set()
            await resolver.resolve(raw(urls[0], signature=signature(0)))
            cdn.go.clear()
            items = [raw(url, signature=signature(n)) for n, url in enumerate(urls)]
            resolving = asyncio.create_task(resolved(resolver, items))
            await wait_until(lambda: cdn.under_way == 8, "as many as the host's bound are under way")
            cdn.go.set()
            videos = await resolving
    assert all(one.verified and one.kind is Kind.MP4 for one in videos)
    assert cdn.protocols == ["h2"]
    assert (cdn.requests, cdn.most) == (SESSIONS, 8)


async def test_what_the_cdn_denied_is_not_asked_for_again_until_that_is_old(cdn: Cdn) -> None:
    found = path("iht", "expMp4", "_540w.mp4")
    again = path("iht", "expMp4", "_720w.mp4")
    urls = (cdn.url("iht", "hls", ".m3u8"), cdn.url("iht", "expMp4", "_720w.mp4"))
    cdn.answers |= {path("iht", "hls", ".m3u8"): master(720), path("iht", "expMp4", "_1w.mp4"): file}
    for ttl_s, asked in ((300.0, 1), (0.001, 2)):
        cdn.asked.clear()
        cdn.answers.pop(found, None)
        async with Resolver(cdn.settings(absent_ttl_s=ttl_s, unsettled_ttl_s=0.0, ask_pins=False)) as resolver:
            first = video(await resolver.resolve(raw(*urls)))
            assert first.kind is Kind.HLS
            # A re-pin that lists one more address makes the video to be looked at anew.
            more = raw(*urls, cdn.url("iht", "other", "_1w.mp4"), pin="2")
            cdn.answers[path("iht", "other", "_1w.mp4")] = file
            second = video(await resolver.resolve(more))
            assert second.url == cdn.url("iht", "other", "_1w.mp4")
        assert cdn.count(f"HEAD {again}") == asked


def told(pins: dict[str, list[str]]) -> Any:
    """An endpoint for widgets that knows these pins and counts what it is asked for."""

    async def answer(request: Request) -> Response:
        asked = [pin for pin in request.query_params["pin_ids"].split(",") if pin in pins]
        return JSONResponse({"data": [{"id": pin, "videos": {"url": pins[pin]}} for pin in asked]})

    return answer


async def test_many_pins_are_asked_for_by_few_requests(cdn: Cdn) -> None:
    items = [stream_only(cdn, n) for n in range(60)]
    secrets = {one.pin.id or "": [cdn.url("iht", "expMp4", "_x9.mp4", one.signature)] for one in items}
    cdn.answers |= {urls[0].removeprefix(cdn.origin): file for urls in secrets.values()}
    cdn.answers[WIDGETS] = told(secrets)
    async with Resolver(cdn.settings(site_requests_per_second=6.0, site_wait_s=20.0, **PATIENT)) as resolver:
        videos = await resolved(resolver, items)
    assert [one.url for one in videos] == [urls[0] for urls in secrets.values()]
    assert cdn.count(WIDGETS) < len(items) / 2
    assert cdn.count(RESOURCE) + cdn.count("GET /pin/") == 0


async def test_pins_that_come_while_a_turn_is_waited_for_are_asked_for_in_that_turn(cdn: Cdn) -> None:
    first, second, *others = [stream_only(cdn, n) for n in range(12)]
    secrets = {
        one.pin.id or "": [cdn.url("iht", "expMp4", "_x9.mp4", one.signature)] for one in (first, second, *others)
    }
    cdn.answers |= {urls[0].removeprefix(cdn.origin): file for urls in secrets.values()}
    cdn.answers[WIDGETS] = told(secrets)
    async with Resolver(cdn.settings(site_requests_per_second=1.0, **PATIENT)) as resolver:  # half of it for many pins
        await resolver.resolve(first)
        waiting = asyncio.create_task(resolver.resolve(second))
        denied = cdn.url("iht", "expMp4", "_360w.mp4", second.signature).removeprefix(cdn.origin)
        await wait_until(lambda: cdn.count(denied), "no file could be guessed")
        videos = [*await resolved(resolver, others), video(await waiting)]
    assert all(one.kind is Kind.MP4 for one in videos)
    assert cdn.count(WIDGETS) == 2


async def test_a_pin_of_which_the_others_answer_says_nothing_is_asked_for_alone(cdn: Cdn) -> None:
    item_, secret = stream_only(cdn, 1), cdn.url("iht", "expMp4", "_x9.mp4", signature(1))
    cdn.answers |= {
        WIDGETS: told({}),
        RESOURCE: JSONResponse({"data": [secret]}),
        secret.removeprefix(cdn.origin): file,
    }
    async with Resolver(cdn.settings()) as resolver:
        assert video(await resolver.resolve(item_)).url == secret


async def test_where_the_answer_for_many_tells_no_file_the_page_alone_is_asked_for(cdn: Cdn) -> None:
    item_, secret = stream_only(cdn, 1), cdn.url("iht", "expMp4", "_x9.mp4", signature(1))
    cdn.answers |= {
        WIDGETS: told({"1": []}),
        "/pin/1/": HTMLResponse(f"<video src='{secret}'>"),
        secret.removeprefix(cdn.origin): file,
    }
    async with Resolver(cdn.settings()) as resolver:
        assert video(await resolver.resolve(item_)).url == secret
    assert cdn.count(RESOURCE) == 0


async def test_turns_are_kept_for_videos_that_the_answer_for_many_does_not_tell_of(cdn: Cdn) -> None:
    named, others = [stream_only(cdn, n) for n in range(20)], [stream_only(cdn, n) for n in range(100, 104)]
    secrets = [cdn.url("iht", "expMp4", "_x9.mp4", one.signature) for one in others]
    known = {str(one.pin.id): [one.variants[0].url] for one in named}
    cdn.answers[WIDGETS] = told(known | {str(one.pin.id): [] for one in others})
    cdn.answers |= {f"/pin/{one.pin.id}/": HTMLResponse("") for one in named}
    for one, secret in zip(others, secrets, strict=True):
        cdn.answers[f"/pin/{one.pin.id}/"] = HTMLResponse(f"<video src='{secret}'>")
        cdn.answers[secret.removeprefix(cdn.origin)] = file
    async with Resolver(cdn.settings(site_requests_per_second=4.0, site_wait_s=20.0, **PATIENT)) as resolver:
        videos = await resolved(resolver, [*named, *others])
    assert [one.kind for one in videos] == [Kind.HLS] * len(named) + [Kind.MP4] * len(others)
    assert cdn.count("GET /pin/") < len(others) + len(named) / 2


async def test_pages_that_tell_of_no_file_are_asked_for_seldom_until_one_does(cdn: Cdn) -> None:
    items = [stream_only(cdn, n) for n in range(76)]
    cdn.answers[WIDGETS] = told({str(one.pin.id): [one.variants[0].url] for one in items})
    cdn.answers |= {f"/pin/{one.pin.id}/": HTMLResponse("") for one in items}

    async def pages(resolver: Resolver, asked_about: list[RawMedia]) -> int:
        before = cdn.count("GET /pin/")
        await resolved(resolver, asked_about)
        return cdn.count("GET /pin/") - before

    async with Resolver(cdn.settings(**PATIENT)) as resolver:
        assert await pages(resolver, items[:4]) == 4
        assert await pages(resolver, items[4:35]) == 0
        assert await pages(resolver, items[35:36]) == 1
        for one in items[36:]:
            secret = cdn.url("iht", "expMp4", "_x9.mp4", one.signature)
            cdn.answers |= {
                f"/pin/{one.pin.id}/": HTMLResponse(f"<video src='{secret}'>"),
                secret.removeprefix(cdn.origin): file,
            }
        assert await pages(resolver, items[36:67]) == 0
        assert await pages(resolver, items[67:68]) == 1
        assert await pages(resolver, items[68:]) == 8


async def test_a_pin_that_the_answer_for_many_does_not_tell_of_has_its_page_asked_for_whatever_others_told(
    cdn: Cdn,
) -> None:
    *empty, last = [stream_only(cdn, n) for n in range(8)]
    secret = cdn.url("iht", "expMp4", "_x9.mp4", last.signature)
    cdn.answers[WIDGETS] = told({str(one.pin.id): [one.variants[0].url] for one in empty} | {str(last.pin.id): []})
    cdn.answers |= {f"/pin/{one.pin.id}/": HTMLResponse("") for one in empty}
    cdn.answers |= {
        f"/pin/{last.pin.id}/": HTMLResponse(f"<video src='{secret}'>"),
        secret.removeprefix(cdn.origin): file,
    }
    async with Resolver(cdn.settings(**PATIENT)) as resolver:
        for one in empty:
            await resolver.resolve(one)
        assert video(await resolver.resolve(last)).url == secret


@pytest.mark.parametrize("answer", [Response("no", 403), HTMLResponse("log in"), Response(status_code=404)])
async def test_pins_are_asked_for_one_by_one_where_that_for_many_is_refused_and_it_is_not_asked_again(
    cdn: Cdn, answer: Response
) -> None:
    items = [stream_only(cdn, n) for n in range(3)]
    secrets = [cdn.url("iht", "expMp4", "_x9.mp4", one.signature) for one in items]
    cdn.answers |= {WIDGETS: answer, RESOURCE: JSONResponse({"data": secrets})}
    cdn.answers |= {secret.removeprefix(cdn.origin): file for secret in secrets}
    async with Resolver(cdn.settings()) as resolver:
        for one, secret in zip(items, secrets, strict=True):
            assert video(await resolver.resolve(one)).url == secret
    assert cdn.count(WIDGETS) == 1
    assert cdn.count(RESOURCE) == 3


async def test_a_wait_that_the_site_asks_one_process_for_is_kept_by_all(cdn: Cdn, bus: Bus, nats_url: str) -> None:
    first, second = stream_only(cdn, 1), stream_only(cdn, 2)
    cdn.answers |= {
        path: Response("slower", 429, {"Retry-After": "60"}) for path in (WIDGETS, RESOURCE, "/pin/1/", "/pin/2/")
    }
    settings = cdn.settings(**PATIENT)
    async with (
        connect(Settings(nats_url=nats_url), "another") as other,
        Resolver(settings, bus) as one,
        Resolver(settings, other) as another,
    ):
        assert video(await one.resolve(first)).kind is Kind.HLS
        asked = cdn.count(WIDGETS), cdn.count(RESOURCE), cdn.count("GET /pin/")
        assert asked[0] == 1
        assert video(await another.resolve(second)).kind is Kind.HLS
    assert (cdn.count(WIDGETS), cdn.count(RESOURCE), cdn.count("GET /pin/")) == asked
