"""Every way in which a client may hand a gateway a secret, the wrong ones most of all."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from libs.common.frames import SUBPROTOCOL
from services.gateway.firebase.requests import new_push_id
from tests.integration.raw_socket import RawSocket, frame, handshake

ANSWER_S = 20.0
PARAMETERS = ("auth", "access_token", "ac", "key", "api_key")
PATHS = ("/v1/nothing", "/v1/sessions", "/sessions/0.json", "/.json", "/docs", "/static/app.js", "/nowhere", "/.ws")
WANTED = {"search_query": "ceramic glaze", "result_limit": 1}
JSON = {"Content-Type": "application/json"}


async def every_way(address: str, given: str) -> None:
    """Over HTTP and WebSockets, by headers, addresses, bodies and frames, well-formed or not."""
    async with httpx2.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=ANSWER_S) as client:
        await by_headers(client, given)
        await by_addresses(client, given)
        await by_bodies(client, given)
    await by_broken_requests(address, given)
    await by_websocket(address, given)
    await by_firebase_websocket(address, given)
    await by_broken_frames(address, given)


async def by_headers(client: httpx2.AsyncClient, given: str) -> None:
    basic = base64.b64encode(f"{given}:".encode()).decode()
    for headers in (
        {"Authorization": f"Bearer {given}"},
        {"Authorization": f"bearer {given} {given}"},
        {"Authorization": given},
        {"Authorization": f"Basic {basic}"},
        {"X-API-Key": given},
        {"X-API-Key": given, "Authorization": f"Bearer another-{given}"},
        {"Cookie": f"key={given}"},
        {"Accept": given},
        {"If-None-Match": given, "X-Firebase-ETag": "true"},
        {"Last-Event-ID": given},
        {"Idempotency-Key": f"{given} {given}"},
        {"Origin": f"https://{given}.example"},
        {"X-HTTP-Method-Override": given},
        {"traceparent": given, "tracestate": f"x={given}", "baggage": f"key={given}"},
        {"X-Firebase-AppCheck": given},
    ):
        await client.get(f"/v1/sessions/{'0' * 32}/videos", headers=headers)
        await client.get("/sessions/0/videos.json", headers=headers)
        await client.post("/v1/sessions", headers={**headers, **JSON}, json=WANTED)
    await client.request(given, "/v1/sessions")


async def by_addresses(client: httpx2.AsyncClient, given: str) -> None:
    for path in PATHS:
        await client.get(f"{path}?ticket={given}")
        await client.get(f"{path}?{'&'.join(f'{name}={given}' for name in PARAMETERS)}")
    for path in ("", "/v1/sessions", "/v1/sessions/0", "/static", "/sessions", "/requests", "/v1/webhook-secret"):
        await client.get(f"{path}/{given}")
        await client.get(f"{path}/{given}/videos.json?auth={given}&orderBy={given}&limitToFirst={given}")
        await client.delete(f"{path}/%00{given}/%ff%zz")
    await client.post("/v1/sessions", params={"key": given}, json=WANTED)
    await client.put(f"/requests/{new_push_id()}.json?auth={given}", json=WANTED)
    await client.put(f"/requests/{new_push_id()}.json?access_token={given}&print=silent", json={"key": given})
    for name in PARAMETERS:
        streamed = client.stream("GET", f"/sessions/0.json?{name}={given}", headers={"Accept": "text/event-stream"})
        async with streamed as answer:
            await anext(answer.aiter_bytes(), b"")


async def by_bodies(client: httpx2.AsyncClient, given: str) -> None:
    for body in (
        {**WANTED, "api_key": given},
        {**WANTED, "result_limit": given},
        {**WANTED, "scope": f"{given} {given}", "new_only": True},
        {**WANTED, "callback_url": f"https://user:{given}@receiver.example/hooks"},
        {**WANTED, "callback_url": f"http://127.0.0.1/{given}?token={given}"},
        {"url": f"https://user:{given}@www.pinterest.com/pin/1/"},
        {"url": f"https://{given}.example/pin/1/?invite_code={given}"},
        {"search_query": {"key": given}},
        given,
        [given],
    ):
        await client.post("/v1/sessions", json=body)
        await client.post("/requests.json", json=body)
    for text in (given, f'{{"search_query": "{given}', f"key={given}"):
        await client.post("/v1/sessions", content=text.encode(), headers=JSON)
        await client.post("/requests.json", content=text.encode(), headers={"Content-Type": given})


async def by_broken_requests(address: str, given: str) -> None:
    """What the HTTP parser or the handshake refuses."""
    bearer = f"Authorization: Bearer {given}\r\n"
    host = f"Host: {address}\r\n"
    socket = handshake(address, f"/ws?ticket={given}").decode()
    for request in (
        f"GET /?key={given}&{'x' * 70_000} HTTP/1.1\r\n{host}\r\n",
        f"GET /%zz%ff?auth={given} HTTP/1.1\r\n{host}{bearer}\r\n",
        f"GET /\xff?auth={given} HTTP/1.1\r\n{host}{bearer}\r\n",
        f"GET /a b?auth={given} HTTP/1.1\r\n{host}\r\n",
        f"GET http://user:{given}@{address}/v1/sessions?auth={given} HTTP/1.1\r\n{host}\r\n",
        f"GET /?auth={given} HTTP/1.1\r\n{bearer}\r\n",
        f"GET /?auth={given} HTTP/9.9\r\n{host}\r\n",
        f"{given} /?auth={given} HTTP/1.1\r\n{host}\r\n",
        f"{given}\r\n\r\n",
        f"GET / HTTP/1.1\r\n{host}Authorization Bearer {given}\r\n\r\n",
        f"GET / HTTP/1.1\r\n{host}Authorization: Bearer {given}\x00\x01\r\n\r\n",
        f"GET / HTTP/1.1\r\n{host}X-{given}: {'y' * 70_000}\r\n\r\n",
        f"POST /v1/sessions HTTP/1.1\r\n{host}{bearer}Content-Length: {given}\r\n\r\n",
        f"POST /v1/sessions HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n{given}\r\n{given}\r\n",
        f"GET / HTTP/1.1\r\n{host}Connection: Upgrade\r\nUpgrade: {given}\r\n\r\n",
        socket.replace("/ws", "/nowhere"),
        socket.replace("Version: 13", f"Version: {given}"),
        socket.replace("dGhlIHNhbXBsZSBub25jZQ==", given),
        socket.replace("\r\n\r\n", f"\r\nSec-WebSocket-Protocol: pinstream.bearer.{given}, \xff(={given}\r\n\r\n"),
        socket.replace("\r\n\r\n", f"\r\nSec-WebSocket-Extensions: {given}; ={given}\r\n\r\n"),
        socket.replace("\r\n\r\n", f"\r\nOrigin: https://{given}\r\nOrigin: https://{given}.example\r\n\r\n"),
    ):
        async with RawSocket(address) as raw:
            raw.writer.write(request.encode("latin-1"))
            with suppress(OSError):
                async with asyncio.timeout(ANSWER_S):
                    await raw.reader.read(1)


async def by_websocket(address: str, given: str) -> None:
    url = f"ws://{address}/ws"
    protocols = [Subprotocol(SUBPROTOCOL), Subprotocol(f"pinstream.bearer.{given}")]
    ways: list[tuple[str, dict[str, Any]]] = [
        (url, {"additional_headers": {"Authorization": f"Bearer {given}"}}),
        (url, {"additional_headers": {"Authorization": f"Basic {given}"}}),
        (url, {"subprotocols": protocols}),
        (url, {"subprotocols": [*protocols, Subprotocol(f"another.{given}")]}),
        *((f"{url}?{name}={given}&after=1", {}) for name in ("ticket", *PARAMETERS)),
        (f"ws://{address}/{given}?auth={given}", {}),
    ]
    texts = [
        json.dumps({"operation": "initiate_extraction", "api_key": given, "parameters": {**WANTED, "key": given}}),
        json.dumps({"operation": given, "id": given}),
        json.dumps(
            {"operation": "resume_extraction", "id": given, "parameters": {"session_id": given, "after": given}}
        ),
        json.dumps({"operation": "cancel_extraction", "parameters": {"session_id": given}}),
        json.dumps({"operation": "cancel_extraction", "parameters": {"session_id": f"{given} {given}"}}),
        f'{{"operation": "{given}',
        given,
    ]
    for at, how in ways:
        async with opened(at, **how) as socket:
            await told(socket, *texts)


async def by_firebase_websocket(address: str, given: str) -> None:
    def asked(number: int, action: str, **body: Any) -> str:
        return json.dumps({"t": "d", "d": {"r": number, "a": action, "b": body}})

    whole = asked(9, "gauth", cred=given, padding="x" * 20_000)
    segments = [whole[start : start + 16_384] for start in range(0, len(whole), 16_384)]
    texts = [
        asked(1, "auth", cred=given),
        asked(2, "gauth", cred=given),
        asked(3, "appcheck", token=given),
        asked(4, "auth", cred=[given]),
        asked(5, given, p=given),
        asked(6, "q", p=f"/sessions/{given}", h="", q={"i": given}, t=given),
        asked(7, "p", p=f"/requests/{given}", d={"search_query": {"key": given}}),
        asked(8, "s", c={"key": given}),
        str(len(segments)),
        *segments,
        given,
    ]
    async with opened(f"ws://{address}/.ws?v=5&ns={given}&auth={given}&ac={given}&p={given}&ls={given}") as socket:
        await told(socket, *texts)


async def by_broken_frames(address: str, given: str) -> None:
    """What no library sends."""
    secret = given.encode()
    for path in ("/ws", "/.ws"):
        for sent in (
            frame(2, secret),
            frame(1, b"\xff\xfe" + secret),
            frame(1, secret, masked=False),
            frame(1, secret, rsv=7),
            frame(3, secret),
            frame(9, secret * 8),
            frame(0, secret),
            frame(8, b"\x0f\xa0" + secret[:100]),
            frame(8, b"\x00\x01" + secret[:100]),
        ):
            async with RawSocket(address) as raw:
                raw.writer.write(handshake(address, f"{path}?auth={given}"))
                with suppress(OSError, asyncio.IncompleteReadError):
                    await raw.reader.readuntil(b"\r\n\r\n")
                    raw.writer.write(sent + frame(8, b"\x03\xe8"))
                    await raw.end()


async def told(socket: ClientConnection | None, *texts: str) -> None:
    """Sends them, and reads until it is closed or has answered a ping of the WebSocket itself."""
    if socket is None:
        return
    for text in texts:
        await socket.send(text)
    async with asyncio.timeout(ANSWER_S):
        await (await socket.ping())


@asynccontextmanager
async def opened(url: str, **how: Any) -> AsyncIterator[ClientConnection | None]:
    """A WebSocket, or None where the gateway takes none there."""
    with suppress(WebSocketException, OSError):
        try:
            socket = await connect(url, proxy=None, close_timeout=1, **how)
        except InvalidStatus:
            yield None
            return
        try:
            yield socket
        finally:
            await socket.close(4000, url.rpartition("=")[2][:100])
