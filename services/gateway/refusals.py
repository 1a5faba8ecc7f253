"""How a connection is refused before any route sees it: HTTP by its status, WebSockets so that a page sees the code."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from libs.common import metrics
from libs.common.frames import SUBPROTOCOL, SUBPROTOCOL_TROUBLE, ErrorFrame, encode_frame
from services.gateway.problems import Problem, retry_after

OPEN = frozenset({"/", "/docs", "/status", "/openapi.json", "/asyncapi.json", "/healthz", "/readyz"})
OPEN_BELOW = ("/static/",)
REST = "/v1/"
FIREBASE = ".json"  # where none of those that are open


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int,
    close_code: int | None,
    code: str,
    message: str,
    retry_after_s: float | None = None,
    field: str | None = None,
) -> None:
    """Answers with `status` and an `error` frame's JSON, under `/v1` with a problem document.

    A WebSocket is opened and closed with `close_code`.

    Browsers tell a page nothing of an opening that was refused by a status, and the client would come back. Without a
    `close_code` a WebSocket is refused by the status all the same.
    """
    if scope["type"] == "websocket":
        metrics.gateway_refusals.add(1, {"protocol": "websocket", "code": code})
    if scope["type"] == "websocket" and close_code is not None:
        metrics.gateway_closes.add(1, {"code": str(close_code)})
        websocket = WebSocket(scope, receive, send)
        await websocket.accept(subprotocol=spoken(scope.get("subprotocols") or []))
        if retry_after_s is not None:
            frame = ErrorFrame(code=code, message=message, retry_after_s=retry_after_s)
            await websocket.send_text(encode_frame(frame))
        await websocket.close(close_code, message[:120])
        return
    headers = {"Cache-Control": "no-store"}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if retry_after_s is not None:
        headers |= retry_after(retry_after_s)
    if scope["type"] == "http" and scope["path"].startswith(REST):
        problem = Problem(status, code, message, field=field, retry_after_s=retry_after_s, headers=headers)
        await problem.answer(Request(scope))(scope, receive, send)
        return
    firebase = scope["type"] == "http" and scope["path"].endswith(FIREBASE)
    if scope["type"] == "http":
        metrics.gateway_refusals.add(1, {"protocol": "firebase" if firebase else "rest", "code": code})
    if firebase:
        body = msgspec.json.encode({"error": message}).decode()
    else:
        body = encode_frame(ErrorFrame(code=code, message=message, field=field, retry_after_s=retry_after_s))
    response = Response(body, status, headers, "application/json")
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(response)
        return
    await response(scope, receive, send)


def is_open(scope: Scope) -> bool:
    """Whether anybody may have it, as often as they like: the pages, what they are made of, and the probes."""
    if scope["type"] == "websocket":
        return False
    path: str = scope["path"]
    return path in OPEN or path.startswith(OPEN_BELOW) or scope["method"] == "OPTIONS"


def spoken(offered: list[str]) -> str | None:
    """The subprotocol of those that are offered, None where none is known."""
    return next((name for name in (SUBPROTOCOL_TROUBLE, SUBPROTOCOL) if name in offered), None)
