"""A small CDN and site for tests of the transformer: each answers as a test tells it to, and counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from libs.common.messages import Pin, RawMedia, Variant
from services.transformer.settings import TransformerSettings

SIG = "737c64f1ec9401ae9d71c55877e9a129"
SHARD = f"{SIG[:2]}/{SIG[2:4]}/{SIG[4:6]}"
FILE = b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 4096
Answer = Response | Callable[[Request], Awaitable[Response]]


def path(family: str, folder: str, tail: str, signature: str = SIG) -> str:
    return f"/videos/{family}/{folder}/{signature[:2]}/{signature[2:4]}/{signature[4:6]}/{signature}{tail}"


def master(*labels: int, signature: str = SIG, codecs: str = "avc1.64081F,mp4a.40.29") -> Response:
    rungs = "".join(
        f'#EXT-X-STREAM-INF:BANDWIDTH=1000,CODECS="{codecs}",RESOLUTION={label}x{label * 16 // 9}\n'
        f"{signature}_{label}w.m3u8\n"
        for label in labels
    )
    return Response(f"#EXTM3U\n{rungs}", media_type="application/vnd.apple.mpegurl")


async def file(request: Request) -> Response:
    """A file of FILE's bytes, with ranges."""
    return served(request, "video/mp4")


def served(request: Request, media_type: str) -> Response:
    wanted = request.headers.get("range")
    if not wanted:
        return Response(FILE, media_type=media_type)
    first, last = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
    headers = {"Content-Range": f"bytes {first}-{last}/{len(FILE)}"}
    return Response(FILE[first : last + 1], 206, headers, media_type)


class Cdn:
    """What is not in `answers` is 403, as on the real one; `head` answers all HEADs where it is set."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.head: Callable[[Request], Awaitable[Response | None]] | None = None
        self.asked: list[str] = []
        self.port = 0

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url(self, family: str, folder: str, tail: str, signature: str = SIG) -> str:
        return self.origin + path(family, folder, tail, signature)

    def count(self, text: str) -> int:
        return sum(text in asked for asked in self.asked)

    async def answer(self, request: Request) -> Response:
        self.asked.append(f"{request.method} {request.url.path}")
        if request.method == "HEAD" and self.head and (given := await self.head(request)):
            return given
        answer = self.answers.get(request.url.path, Response("<Error/>", 403))
        return answer if isinstance(answer, Response) else await answer(request)

    def settings(self, **changes: object) -> TransformerSettings:
        given: dict[str, object] = {
            "site_url": self.origin,
            "media_hosts": (f"127.0.0.1:{self.port}",),
            "site_requests_per_second": 100.0,
            "request_timeout_s": 0.5,
            "item_timeout_s": 3.0,
        }
        return TransformerSettings(**(given | changes))  # type: ignore[arg-type]


@asynccontextmanager
async def running_cdn() -> AsyncIterator[Cdn]:
    cdn = Cdn()
    app = Starlette(routes=[Route("/{rest:path}", cdn.answer, methods=["GET", "HEAD"])])
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    cdn.port = socket.getsockname()[1]
    serving = asyncio.create_task(server._serve(sockets=[socket]))
    try:
        yield cdn
    finally:
        server.should_exit = True
        await serving


def raw(*urls: str, pin: str | None = "1", signature: str = SIG, **fields: object) -> RawMedia:
    keys = ("V_HLSV4", "V_720P") if urls and urls[0].endswith(".m3u8") else ("V_720P", "V_EXP7")
    variants = [Variant(key=key, url=url) for key, url in zip([*keys, *"ABCDEF"], urls, strict=False)]
    return RawMedia(
        session="s",
        item=f"{pin}-0",
        signature=signature,
        pin=Pin(id=pin),
        variants=variants,
        **fields,  # type: ignore[arg-type]
    )
