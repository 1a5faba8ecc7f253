"""`/asyncapi.json`: the WebSocket protocol and the events as an AsyncAPI 3 document, made from the types."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import msgspec

from libs.common import frames
from libs.common.frames import SUBPROTOCOL, SUBPROTOCOL_TROUBLE
from services.gateway.access import BEARER
from services.gateway.schemas import SESSION_ID, Schema, components, ref
from services.gateway.version import VERSION
from services.gateway.webhooks.payloads import CompletedEvent, VideoEvent

OPERATIONS = (frames.InitiateExtraction, frames.CancelExtraction, frames.ResumeExtraction, frames.Ping)
FRAMES = (
    frames.Accepted,
    frames.VideoFrame,
    frames.Progress,
    frames.Completed,
    frames.ErrorFrame,
    frames.Pong,
)
WEBHOOKS = (VideoEvent, CompletedEvent)  # posted to `callback_url`
EVENTS = (frames.VideoFrame, frames.Progress, frames.Completed)  # of a session, over server-sent events

SECURITY: dict[str, Schema] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "API key or JWT",
        "description": "An API key of `pinstream keys create`, or a JWT of an issuer that the gateway trusts.",
    },
    "api_key": {"type": "httpApiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
    "ticket": {
        "type": "httpApiKey",
        "in": "query",
        "name": "ticket",
        "description": "Of `POST /v1/tickets`: good once, within 30 s. Nothing else may stand in an address.",
    },
    "subprotocol": {
        "type": "httpApiKey",
        "in": "header",
        "name": "Sec-WebSocket-Protocol",
        "description": f"Of browsers, beside `{SUBPROTOCOL}`: `{BEARER}` and then the key, the token or the ticket.",
    },
}
OVER_HTTP = ("bearer", "api_key", "ticket")

_REPLIES: dict[type, tuple[type, ...]] = {
    frames.InitiateExtraction: (frames.Accepted, *EVENTS, frames.ErrorFrame),
    frames.CancelExtraction: (frames.Completed, frames.ErrorFrame),
    frames.ResumeExtraction: (*EVENTS, frames.ErrorFrame),
    frames.Ping: (frames.Pong,),
}


def name_of(type_: type[msgspec.Struct]) -> str:
    """What `operation` or `event` says of a message of this type."""
    return str(type_.__struct_config__.tag)


@cache
def asyncapi_document(*, key_needed: bool) -> bytes:
    """The document, as JSON; `key_needed`: of a gateway that nobody may use without a key, a token or a ticket."""
    return msgspec.json.encode(_document(key_needed=key_needed))


def _document(*, key_needed: bool) -> dict[str, Any]:
    def secured(operation: Schema, *ways: str) -> Schema:
        security = [{"$ref": f"#/components/securitySchemes/{name}"} for name in ways]
        return {**operation, "security": security} if key_needed else operation

    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "pinstream",
            "version": VERSION,
            "description": "Videos on a topic as they are found. docs/websocket.md has examples; REST is in "
            "/openapi.json.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "socket": {
                "address": "/ws",
                "title": "The WebSocket",
                "description": "One JSON object a text frame. Several sessions may share a connection. The "
                f"subprotocol `{SUBPROTOCOL}` or `{SUBPROTOCOL_TROUBLE}` is optional.",
                "messages": {name_of(one): _message_ref(one) for one in (*OPERATIONS, *FRAMES)},
                "bindings": {"ws": {"method": "GET"}},
            },
            "events": {
                "address": "/v1/sessions/{session_id}/events",
                "title": "Server-sent events",
                "description": "The same frames as events of their names; `id` is what `Last-Event-ID` resumes after.",
                "parameters": {"session_id": {"description": "A session's id"}},
                "messages": {name_of(one): _message_ref(one) for one in EVENTS},
                "bindings": {"http": {"bindingVersion": "0.3.0"}},
            },
            "callback": {
                "address": None,
                "title": "Webhooks",
                "description": "What is posted to the `callback_url` of a session, signed as Standard Webhooks has it; "
                "docs/webhooks.md.",
                "messages": {_webhook(one): {"$ref": f"#/components/messages/{_webhook(one)}"} for one in WEBHOOKS},
                "bindings": {"http": {"bindingVersion": "0.3.0"}},
            },
        },
        "operations": {
            **{name_of(one): secured(_received(one), *SECURITY) for one in OPERATIONS},
            "frames": secured(_sent("socket", FRAMES), *SECURITY),
            "events": secured(_sent("events", EVENTS), *OVER_HTTP),
            "webhooks": {
                "action": "send",
                "channel": {"$ref": "#/channels/callback"},
                "messages": [{"$ref": f"#/channels/callback/messages/{_webhook(one)}"} for one in WEBHOOKS],
            },
        },
        "components": {
            "messages": {
                **{name_of(one): _message(one) for one in (*OPERATIONS, *FRAMES)},
                **{_webhook(one): {**_message(one), "name": _webhook(one)} for one in WEBHOOKS},
            },
            "schemas": {**components((*OPERATIONS, *FRAMES, *WEBHOOKS)), "SessionId": SESSION_ID},
            "securitySchemes": SECURITY,
        },
    }


def _webhook(type_: type[msgspec.Struct]) -> str:
    return f"webhook_{name_of(type_)}"


def _message(type_: type[msgspec.Struct]) -> Schema:
    summary = inspect.cleandoc(type_.__doc__ or "").partition("\n")[0]
    return {"name": name_of(type_), "title": type_.__name__, "summary": summary, "payload": ref(type_)}


def _message_ref(type_: type[msgspec.Struct]) -> Schema:
    return {"$ref": f"#/components/messages/{name_of(type_)}"}


def _in_channel(channel: str, type_: type[msgspec.Struct]) -> Schema:
    return {"$ref": f"#/channels/{channel}/messages/{name_of(type_)}"}


def _received(type_: type[msgspec.Struct]) -> Schema:
    return {
        "action": "receive",
        "channel": {"$ref": "#/channels/socket"},
        "messages": [_in_channel("socket", type_)],
        "reply": {
            "channel": {"$ref": "#/channels/socket"},
            "messages": [_in_channel("socket", one) for one in _REPLIES[type_]],
        },
    }


def _sent(channel: str, types: tuple[type[msgspec.Struct], ...]) -> Schema:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [_in_channel(channel, one) for one in types],
    }
