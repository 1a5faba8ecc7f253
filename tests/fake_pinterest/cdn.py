"""The CDN: what exists follows from the signature alone; what does not exist is forbidden, not missing."""

from __future__ import annotations

import re
from functools import lru_cache

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from . import playlists
from .clips import HEVC_DASH, HEVC_HLS, RUNG_SIZES, Clip, Size
from .playlists import MEDIA
from .signatures import has_captions, number, read_signature
from .state import State

SLOW_S = 3  # longer than a verifier's patience for one request should be
HLS, MP4, JPEG, VTT = "application/vnd.apple.mpegurl", "video/mp4", "image/jpeg", "text/vtt"
_CODEC_FILES = (("hevcMp4V3/", "hevc"), ("h265-pt-mp4/", "hevc"), ("av1Mp4-enabled-v2/", "av1"))
_HEADERS = {"Access-Control-Allow-Origin": "*", "Cache-Control": "no-store", "Accept-Ranges": "bytes"}
_NAME = re.compile(r"([0-9a-f]{32})(\S*)")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")

Found = tuple[bytes, str]  # a body and its media type


def cdn_routes(state: State) -> list[BaseRoute]:
    async def video(request: Request) -> Response:
        family, kind, name = (request.path_params[part] for part in ("family", "kind", "name"))
        signature = name[:32]
        refused = await _in_its_mood(request, state, signature)
        return refused or _answer(request, rendition(f"{family}/{kind}", _shards(request), name))

    async def captions(request: Request) -> Response:
        name = request.path_params["name"]
        known = name.endswith(".vtt") and read_signature(name[:-4]) and has_captions(name[:-4])
        return _answer(request, (playlists.captions().encode(), VTT) if known else None)

    async def poster(request: Request) -> Response:
        signature = request.path_params["name"].removesuffix(".0000000.jpg")
        return _answer(request, (_picture(signature), JPEG) if read_signature(signature) else None)

    async def image(request: Request) -> Response:
        signature, _, extension = request.path_params["name"].partition(".")
        if signature[:16] != signature[16:32]:
            return _answer(request, None)
        if extension == "gif":
            return _answer(request, (_file("moving.gif"), "image/gif"))
        return _answer(request, (_picture(signature), JPEG) if extension == "jpg" else None)

    sharded = "{aa}/{bb}/{cc}/{name}"
    methods = ["GET", "HEAD"]
    sizes = ("originals", "170x", "236x", "474x", "736x", "30x30_RS")
    return [
        Route(f"/videos/captions/en-us/{sharded}", captions, methods=methods),
        Route(f"/videos/thumbnails/originals/{sharded}", poster, methods=methods),
        Route(f"/videos/{{family}}/{{kind}}/{sharded}", video, methods=methods),
        *(Route(f"/{size}/{sharded}", image, methods=methods) for size in sizes),
    ]


@lru_cache(maxsize=4096)
def rendition(folder: str, shards: str, name: str) -> Found | None:
    """The body and type of a file under `/videos/`; None where the CDN answers 403."""
    match = _NAME.fullmatch(name)
    if match is None or shards != f"{name[:2]}/{name[2:4]}/{name[4:6]}":
        return None
    signature, rest = match.groups()
    known = read_signature(signature)
    if known is None:
        return None
    clip, template = known[0], f"{folder}/{{}}{rest}"
    if folder == f"{clip.family}/hls":
        return _stream(clip, signature, rest)
    if template in clip.files:
        return _progressive(clip, folder, rest)
    if HEVC_HLS in clip.listed.values():
        return _hevc_stream(template, folder, signature, rest)
    return None


def _stream(clip: Clip, signature: str, rest: str) -> Found | None:
    if rest == ".m3u8":
        return playlists.master(clip, signature).encode(), HLS
    if rest == "_audio.m3u8":
        return playlists.audio_playlist(f"{signature}_audio.cmfa").encode(), HLS
    if rest == "_audio.cmfa":
        return _file("audio.m4s"), "audio/mp4"
    rung, _, extension = rest.removeprefix("_").partition(".")
    if rung not in clip.rungs:
        return None
    if extension == "m3u8":
        return playlists.video_playlist(clip.size(rung), f"{signature}_{rung}.cmfv").encode(), HLS
    if extension == "cmfv":
        return _file(f"video_{_named(clip.size(rung))}.m4s"), MP4
    return None


def _progressive(clip: Clip, folder: str, rest: str) -> Found:
    for part, codec in _CODEC_FILES:
        if part in f"{folder}/":
            return _file(f"{codec}.mp4"), MP4
    rung = next((rung for rung in RUNG_SIZES if f"_{rung}" in rest), "720w")
    return _file(f"clip_{_named(clip.size(rung))}.mp4"), MP4


def _hevc_stream(template: str, folder: str, signature: str, rest: str) -> Found | None:
    if template == HEVC_HLS:
        return playlists.hevc_master(signature).encode(), HLS
    if template == HEVC_DASH:
        return playlists.dash_manifest(f"{signature}_540w.cmfv").encode(), "application/dash+xml"
    if rest == "_540w.m3u8":
        return playlists.hevc_playlist(f"{signature}_540w.cmfv").encode(), HLS
    if rest == "_540w.cmfv" and folder.startswith("iht/h265"):
        return _file("video_hevc.m4s"), MP4
    return None


async def _in_its_mood(request: Request, state: State, signature: str) -> Response | None:
    if state.cdn_latency_s:
        await anyio.sleep(state.cdn_latency_s)
    known = read_signature(signature)
    mood = known[1] if known else ""
    if mood == "cdn_slow":
        await anyio.sleep(SLOW_S)
    if mood == "cdn_down" or (mood == "cdn_down_once" and state.first_time(f"cdn {signature}")):
        return Response("Service Unavailable", 503, _HEADERS)
    if mood == "cdn_head_forbidden" and request.method == "HEAD":
        return Response(status_code=403, headers=_HEADERS)
    return None


def _answer(request: Request, found: Found | None) -> Response:
    if found is None:
        return Response("<Error><Code>AccessDenied</Code></Error>", 403, _HEADERS, "application/xml")
    body, media_type = found
    wanted = _RANGE.fullmatch(request.headers.get("range", ""))
    if wanted is None or wanted.groups() == ("", ""):
        return Response(body, 200, _HEADERS, media_type)
    start, stop = _bounds(wanted[1], wanted[2], len(body))
    if start >= stop:
        return Response(status_code=416, headers={**_HEADERS, "Content-Range": f"bytes */{len(body)}"})
    headers = {**_HEADERS, "Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"}
    return Response(body[start:stop], 206, headers, media_type)


def _bounds(first: str, last: str, length: int) -> tuple[int, int]:
    if not first:
        return max(0, length - int(last)), length
    return int(first), min(int(last) + 1 if last else length, length)


def _shards(request: Request) -> str:
    return "/".join(request.path_params[part] for part in ("aa", "bb", "cc"))


def _picture(signature: str) -> bytes:
    return _file(f"poster_{number('poster', signature) % 8}.jpg")


def _named(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


@lru_cache(maxsize=64)
def _file(name: str) -> bytes:
    return (MEDIA / name).read_bytes()
