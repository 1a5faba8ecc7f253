"""The resolver against CDNs and sites of every temper, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from libs.common.messages import Kind, Pin, RawMedia, Video
from services.transformer.resolver import Resolver
from tests.integration.transformer_cdn import FILE, SIG, Cdn, file, master, path, raw, running_cdn, served

IHT_720 = path("iht", "expMp4", "_720w.mp4")
IHT_540 = path("iht", "expMp4", "_540w.mp4")
IHT_MASTER = path("iht", "hls", ".m3u8")
MC_720P = path("mc", "720p", ".mp4")
MC_T2 = path("mc", "expMp4", "_t2.mp4")
RESOURCE = "/resource/PinResource/get/"


@pytest.fixture
async def cdn() -> AsyncIterator[Cdn]:
    async with running_cdn() as cdn:
        yield cdn


async def resolved(cdn: Cdn, item: RawMedia, **settings: object) -> Video:
    async with Resolver(cdn.settings(**settings)) as resolver:
        direct = await resolver.resolve(item)
    assert direct.video is not None, direct.unavailable
    return direct.video


async def test_a_listed_file_costs_one_head(cdn: Cdn) -> None:
    cdn.answers[IHT_720] = file
    video = await resolved(cdn, raw(cdn.origin + IHT_MASTER, cdn.origin + IHT_720))
    assert (video.url, video.kind, video.verified, video.codec) == (cdn.origin + IHT_720, Kind.MP4, True, "h264")
    assert video.size_bytes == len(FILE)
    assert cdn.asked == [f"HEAD {IHT_720}"]
    assert [(item.url, item.kind, item.verified) for item in video.alternatives] == [
        (cdn.origin + IHT_MASTER, Kind.HLS, False)
    ]


async def test_the_top_rung_of_the_ladder_gives_the_file_and_its_size(cdn: Cdn) -> None:
    cdn.answers |= {IHT_MASTER: master(240, 540), IHT_540: file}
    video = await resolved(cdn, raw(cdn.url("iht", "hls", "_240w.m3u8")))
    assert (video.url, video.width, video.height) == (cdn.origin + IHT_540, 540, 960)
    assert cdn.asked == [f"GET {IHT_MASTER}", f"HEAD {IHT_540}"]
    assert video.alternatives[0].verified


async def test_a_missing_rendition_costs_one_request_where_head_is_known_to_work(cdn: Cdn) -> None:
    other = "a" * 32
    cdn.answers |= {path("mc", "720p", ".mp4", other): file, MC_T2: file}
    async with Resolver(cdn.settings()) as resolver:
        await resolver.resolve(raw(cdn.url("mc", "hls", ".m3u8", other), signature=other))
        cdn.asked.clear()
        direct = await resolver.resolve(raw(cdn.url("mc", "hls", ".m3u8")))
    assert direct.video is not None
    assert direct.video.url == cdn.origin + MC_T2
    assert not any(asked.startswith("GET") for asked in cdn.asked)
    assert len(cdn.asked) == 4  # 720p alone, then three tiers together


@pytest.mark.parametrize("status", [400, 403, 404, 405, 500, 501, 503])
async def test_a_cdn_that_refuses_head_is_asked_by_range(cdn: Cdn, status: int) -> None:
    async def refuse(request: Request) -> Response:
        return Response(status_code=status)

    cdn.head = refuse
    cdn.answers |= {IHT_MASTER: master(720), IHT_540: file}
    video = await resolved(cdn, raw(cdn.origin + IHT_MASTER))
    assert (video.url, video.verified, video.size_bytes) == (cdn.origin + IHT_540, True, len(FILE))


async def test_a_cdn_that_never_answers_head_is_asked_by_range(cdn: Cdn) -> None:
    async def hang(request: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    cdn.head = hang
    cdn.answers[MC_720P] = file
    video = await resolved(cdn, raw(cdn.url("mc", "hls", ".m3u8")), request_timeout_s=0.2)
    assert (video.url, video.verified) == (cdn.origin + MC_720P, True)


async def test_a_host_whose_head_works_for_some_videos_and_lies_for_others_loses_no_file(cdn: Cdn) -> None:
    honest = "b" * 32

    async def lie(request: Request) -> Response | None:
        return Response(status_code=403) if SIG in request.url.path else None

    cdn.head = lie
    cdn.answers |= {path("iht", "expMp4", "_720w.mp4", honest): file, IHT_MASTER: master(720), IHT_540: file}
    async with Resolver(cdn.settings()) as resolver:
        await resolver.resolve(raw(cdn.url("iht", "expMp4", "_720w.mp4", honest), signature=honest))
        direct = await resolver.resolve(raw(cdn.origin + IHT_MASTER))
    assert direct.video is not None
    assert (direct.video.url, direct.video.verified) == (cdn.origin + IHT_540, True)


async def test_an_unlabelled_file_counts_only_if_it_begins_as_an_mp4(cdn: Cdn) -> None:
    async def unlabelled(request: Request) -> Response:
        return served(request, "application/octet-stream")

    cdn.answers |= {IHT_MASTER: master(720), IHT_720: Response(b"nothing like it", media_type="binary/octet-stream")}
    cdn.answers[IHT_540] = unlabelled
    assert (await resolved(cdn, raw(cdn.origin + IHT_MASTER))).url == cdn.origin + IHT_540


@pytest.mark.parametrize(
    "impostor",
    [HTMLResponse("not here"), Response(FILE, media_type="image/jpeg"), Response(b"", media_type="video/mp4")],
)
async def test_a_page_an_image_and_an_empty_answer_are_no_files(cdn: Cdn, impostor: Response) -> None:
    cdn.answers |= {IHT_MASTER: master(720), IHT_720: impostor}
    video = await resolved(cdn, raw(cdn.origin + IHT_MASTER))
    assert (video.url, video.kind, video.verified) == (cdn.origin + IHT_MASTER, Kind.HLS, True)
    assert (video.width, video.height, video.codec) == (720, 1280, "h264")


async def test_a_redirect_to_another_host_is_never_followed(cdn: Cdn) -> None:
    async with running_cdn() as foreign:
        foreign.answers[IHT_720] = file
        cdn.answers |= {IHT_MASTER: master(720), IHT_720: RedirectResponse(foreign.origin + IHT_720)}
        video = await resolved(cdn, raw(cdn.origin + IHT_MASTER))
        assert (video.kind, video.url) == (Kind.HLS, cdn.origin + IHT_MASTER)
        assert foreign.asked == []


async def test_a_redirect_on_the_host_is_followed_if_it_leads_to_the_same_video(cdn: Cdn) -> None:
    moved = path("iht", "moved", "_720w.mp4")
    cdn.answers |= {IHT_MASTER: master(720), IHT_720: RedirectResponse(moved), moved: file}
    assert (await resolved(cdn, raw(cdn.origin + IHT_MASTER))).url == cdn.origin + moved


async def test_files_in_other_codecs_are_handed_on_only_if_allowed_and_then_by_name(cdn: Cdn) -> None:
    hevc = path("iht", "hevcMp4V3", "_720w.mp4")
    cdn.answers |= {IHT_MASTER: master(720), hevc: file}
    assert (await resolved(cdn, raw(cdn.origin + IHT_MASTER, cdn.origin + hevc))).kind is Kind.HLS
    video = await resolved(cdn, raw(cdn.origin + IHT_MASTER), allow_hevc=True)
    assert (video.url, video.codec) == (cdn.origin + hevc, "hevc")


async def test_the_pin_resource_tells_a_file_that_nobody_could_guess(cdn: Cdn) -> None:
    secret = path("iht", "expMp4", "_720w_r2.mp4")

    async def resource(request: Request) -> Response:
        assert request.headers["x-pinterest-pws-handler"] == "www/pin/[id].js"
        assert json.loads(request.query_params["data"])["options"]["id"] == "77"
        return JSONResponse(
            {"resource_response": {"data": {"videos": {"video_list": {"V": {"url": cdn.origin + secret}}}}}}
        )

    cdn.answers |= {IHT_MASTER: master(720), secret: file, RESOURCE: resource}
    video = await resolved(cdn, raw(cdn.origin + IHT_MASTER, pin="77"))
    assert (video.url, video.verified) == (cdn.origin + secret, True)


async def test_the_page_is_asked_too_where_the_resource_tells_only_what_is_denied_or_in_other_codecs(cdn: Cdn) -> None:
    secret = path("iht", "expMp4", "_720w_r2.mp4")
    told = [cdn.origin + path("iht", "hevcMp4V3", "_720w.mp4"), cdn.origin + IHT_720]
    cdn.answers |= {
        IHT_MASTER: master(720),
        secret: file,
        RESOURCE: JSONResponse({"data": told}),
        "/pin/1/": HTMLResponse(f"<video src='{cdn.origin + secret}'>"),
    }
    assert (await resolved(cdn, raw(cdn.origin + IHT_MASTER))).url == cdn.origin + secret


@pytest.mark.parametrize("refusal", [403, 429, 500])
async def test_the_pins_page_tells_it_where_the_resource_does_not_and_a_refusal_loses_nothing(
    cdn: Cdn, refusal: int
) -> None:
    secret = path("iht", "expMp4", "_720w_r2.mp4")
    escaped = json.dumps(json.dumps({"videoUrls": [cdn.origin + secret]})).replace("/", "\\u002F")
    cdn.answers |= {
        IHT_MASTER: master(720),
        secret: file,
        RESOURCE: Response("Invalid Resource Request", refusal),
        "/pin/77/": HTMLResponse(f"<script>register({escaped})</script>"),
    }
    video = await resolved(cdn, raw(cdn.origin + IHT_MASTER, pin="77"))
    # After a 429 the site is left alone, so there the playlist is what remains.
    assert video.url == cdn.origin + (IHT_MASTER if refusal == 429 else secret)
    assert video.verified


async def test_more_items_than_the_site_has_turns_for_go_without_at_once(cdn: Cdn) -> None:
    signatures = [f"{n:032x}" for n in range(8)]
    for signature in signatures:
        cdn.answers[path("iht", "hls", ".m3u8", signature)] = master(720, signature=signature)
    items = [raw(cdn.url("iht", "hls", ".m3u8", sig), pin=str(n), signature=sig) for n, sig in enumerate(signatures)]
    async with Resolver(cdn.settings(site_requests_per_second=2.0, site_wait_s=0.5)) as resolver:
        async with asyncio.timeout(10):
            directs = await asyncio.gather(*map(resolver.resolve, items))
    assert all(direct.video and direct.video.kind is Kind.HLS and direct.video.verified for direct in directs)
    assert cdn.count("/resource/") + cdn.count("/pin/") < len(items)


async def test_a_video_is_resolved_once_however_many_pins_carry_it(cdn: Cdn) -> None:
    cdn.answers |= {IHT_MASTER: master(720), IHT_720: file}
    items = [raw(cdn.origin + IHT_MASTER, pin=str(n), poster_url=f"https://i/{n}.jpg") for n in range(20)]
    async with Resolver(cdn.settings()) as resolver:
        directs = await asyncio.gather(*map(resolver.resolve, items))
        directs.append(await resolver.resolve(items[0]))
    assert len(cdn.asked) == 2
    for item, direct in zip([*items, items[0]], directs, strict=True):
        assert direct.video is not None
        assert (direct.item, direct.video.pin, direct.video.poster_url) == (item.item, item.pin, item.poster_url)


async def test_a_repin_that_lists_a_file_improves_on_a_playlist(cdn: Cdn) -> None:
    odd = path("iht", "elsewhere", "_1.mp4")
    cdn.answers |= {IHT_MASTER: master(720), odd: file}
    async with Resolver(cdn.settings(ask_pins=False)) as resolver:
        first = await resolver.resolve(raw(cdn.origin + IHT_MASTER))
        second = await resolver.resolve(raw(cdn.origin + IHT_MASTER, cdn.origin + odd))
    assert first.video and first.video.kind is Kind.HLS
    assert second.video and second.video.url == cdn.origin + odd


async def test_a_fault_that_passes_is_sat_out(cdn: Cdn) -> None:
    struck: set[str] = set()

    async def once_429(request: Request) -> Response:
        if request.url.path in struck:
            return await file(request)
        struck.add(request.url.path)
        return Response(status_code=429, headers={"Retry-After": "0"})

    cdn.answers[IHT_720] = once_429
    assert (await resolved(cdn, raw(cdn.origin + IHT_720))).verified


@pytest.mark.parametrize("fault", [500, 503, 429, None])
async def test_a_cdn_that_is_down_or_silent_gives_the_best_candidate_unverified(cdn: Cdn, fault: int | None) -> None:
    async def fail(request: Request) -> Response:
        if fault is None:
            await asyncio.Event().wait()
        return Response(status_code=fault or 500, headers={"Retry-After": "60"})

    for known in (IHT_720, IHT_MASTER, IHT_540):
        cdn.answers[known] = fail
    cdn.head = fail
    settings = {"request_timeout_s": 0.1, "item_timeout_s": 1.0}
    listed = await resolved(cdn, raw(cdn.origin + IHT_MASTER, cdn.origin + IHT_720), **settings)
    assert (listed.url, listed.kind, listed.verified) == (cdn.origin + IHT_720, Kind.MP4, False)
    unlisted = await resolved(cdn, raw(cdn.origin + IHT_MASTER), **settings)
    assert (unlisted.url, unlisted.kind, unlisted.verified) == (cdn.origin + IHT_MASTER, Kind.HLS, False)


async def test_a_cdn_that_nobody_runs_gives_the_best_candidate_and_is_asked_again_later(unused_port: int) -> None:
    cdn = Cdn()
    cdn.port = unused_port
    async with Resolver(cdn.settings(unsettled_ttl_s=0.0)) as resolver:
        for _ in range(2):
            direct = await resolver.resolve(raw(cdn.url("mc", "hls", "_240w.m3u8")))
            assert direct.video is not None
            assert (direct.video.url, direct.video.verified) == (cdn.url("mc", "hls", ".m3u8"), False)


async def test_an_unverified_result_is_forgotten_when_the_cdn_is_back(cdn: Cdn) -> None:
    cdn.answers[IHT_MASTER] = Response(status_code=503)
    cdn.answers[IHT_720] = Response(status_code=503)
    async with Resolver(cdn.settings(unsettled_ttl_s=0.0)) as resolver:
        first = await resolver.resolve(raw(cdn.origin + IHT_MASTER))
        cdn.answers |= {IHT_MASTER: master(720), IHT_720: file}
        second = await resolver.resolve(raw(cdn.origin + IHT_MASTER))
    assert first.video and not first.video.verified
    assert second.video and (second.video.url, second.video.verified) == (cdn.origin + IHT_720, True)


async def test_what_is_on_a_foreign_host_is_never_asked_for(cdn: Cdn) -> None:
    async with running_cdn() as foreign, Resolver(cdn.settings()) as resolver:
        direct = await resolver.resolve(raw(foreign.origin + IHT_MASTER, foreign.origin + IHT_720))
        assert (direct.video, direct.unavailable) == (None, "host_not_allowed")
        cdn.answers |= {IHT_MASTER: master(720), IHT_720: file}
        mixed = await resolver.resolve(raw(cdn.origin + IHT_MASTER, foreign.origin + IHT_720))
        assert mixed.video and mixed.video.url == cdn.origin + IHT_720
        assert not [item for item in mixed.video.alternatives if foreign.origin in item.url]
        assert foreign.asked == []


async def test_a_video_that_is_gone_is_said_to_be(cdn: Cdn) -> None:
    for gone in (IHT_MASTER, IHT_720):
        cdn.answers[gone] = Response(status_code=404)
    async with Resolver(cdn.settings()) as resolver:
        direct = await resolver.resolve(raw(cdn.origin + IHT_MASTER, cdn.origin + IHT_720))
    assert direct.unavailable == "gone"


async def test_an_item_without_media_is_unavailable_and_an_embed_is_an_embed_without_a_request(cdn: Cdn) -> None:
    async with Resolver(cdn.settings()) as resolver:
        nothing = await resolver.resolve(raw(pin=None))
        image = await resolver.resolve(raw("https://i.pinimg.com/originals/a.jpg", pin=None, signature="c" * 32))
        embed = await resolver.resolve(raw(signature="x", embed_url="//www.youtube.com/embed/abc", captured_at=2.0))
        script = await resolver.resolve(raw(signature="y", embed_url="javascript:alert(1)"))
    assert nothing.unavailable == image.unavailable == script.unavailable == "no_media"
    assert embed.video == Video(
        id="x", url="https://www.youtube.com/embed/abc", kind=Kind.EMBED, verified=False, pin=Pin(id="1")
    )
    assert embed.captured_at == 2.0
    assert cdn.asked == []
