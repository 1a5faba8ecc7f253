"""`/openapi.json`: REST as an OpenAPI 3.1 document, made from the types."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from libs.common.frames import MAX_RESULT_LIMIT, Completed, InitiateParameters, Progress, VideoFrame
from services.gateway.idempotency import HEADER, KEY
from services.gateway.parameters import LAST_EVENT_ID
from services.gateway.problems import MEDIA_TYPE as PROBLEM
from services.gateway.problems import ProblemDocument
from services.gateway.representations import CSV, JSON, NDJSON
from services.gateway.resources import Created, FoundVideo, Issued, Session, SessionPage, VideoPage, WebhookSecret
from services.gateway.rest import MOST_SESSIONS, MOST_WAIT_S, SESSIONS, VIDEOS
from services.gateway.schemas import AFTER, SESSION_ID, Schema, components, ref
from services.gateway.status import SystemStatus
from services.gateway.version import VERSION
from services.gateway.webhooks.payloads import CompletedEvent, VideoEvent

TYPES = (
    *(InitiateParameters, Issued, Created, Session, SessionPage, VideoPage, FoundVideo),
    *(SystemStatus, ProblemDocument, WebhookSecret),
)
EVENT_TYPES = (VideoFrame, Progress, Completed)
WEBHOOK_TYPES = (VideoEvent, CompletedEvent)

_PROBLEMS = {
    400: "The body is not JSON.",
    401: "It needs a key, a token or a ticket, or the one that was given is not good.",
    403: "The caller may not.",
    404: "There is no such session, or nothing is kept of it, or it is another's.",
    406: "`Accept` lets none of the representations pass.",
    408: "The body did not come in time.",
    409: "The session of this key is about to be gone; use a new key.",
    410: "The records of this session are no longer kept.",
    413: "The body is too large.",
    415: "The body is not `application/json`.",
    422: "What `field` names cannot be used.",
    429: "Too many at once; ask again after `Retry-After`.",
    503: "The broker is away or full, or this gateway is about to stop; ask again after `Retry-After`.",
}
SECURITY: dict[str, Schema] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "API key or JWT",
        "description": "An API key of `pinstream keys create`, or a JWT of an issuer that the gateway trusts.",
    },
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": (
            "Of `POST /v1/tickets`: good once, within 30 s; where it opened the events of a session, for those again, "
            "for an hour. Nothing else may stand in an address."
        ),
    },
}

_RETRY: Schema = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}}
_NEXT: Schema = {"Link": {"description": 'The next page, `rel="next"`, if there is one.', "schema": {"type": "string"}}}


@cache
def openapi_document(*, key_needed: bool) -> bytes:
    """The document, as JSON; `key_needed`: of a gateway that nobody may use without a key, a token or a ticket."""
    return msgspec.json.encode(_document(key_needed=key_needed))


def _document(*, key_needed: bool) -> dict[str, Any]:
    ways: list[dict[str, list[str]]] = [{name: []} for name in SECURITY]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pinstream",
            "version": VERSION,
            "description": "Direct links to the Pinterest videos on a topic, as they are found. docs/rest.md has "
            "examples; the WebSocket is in /asyncapi.json.",
        },
        "servers": [{"url": "/"}],
        "security": ways if key_needed else [*ways, {}],
        "paths": {
            "/v1/tickets": {"post": _ticket()},
            "/v1/sessions": {"post": _begin(), "get": _list()},
            "/v1/sessions/{session_id}": {"parameters": [_session()], "get": _show(), "delete": _cancel()},
            "/v1/sessions/{session_id}/videos": {"parameters": [_session()], "get": _videos()},
            "/v1/sessions/{session_id}/events": {"parameters": [_session()], "get": _events()},
            "/v1/status": {"get": _status()},
            "/v1/webhook-secret": {"get": _webhook_secret()},
        },
        "components": {"schemas": components((*TYPES, *EVENT_TYPES, *WEBHOOK_TYPES)), "securitySchemes": SECURITY},
    }


def _ticket() -> Schema:
    return {
        "operationId": "issueTicket",
        "summary": "Leave to connect once, for clients that cannot set a header",
        "responses": {
            "201": {"description": "A ticket.", "content": {JSON: {"schema": ref(Issued)}}},
            **_problems(401, 403, 429, 503),
        },
    }


def _begin() -> Schema:
    created = {
        "description": "The session; the same one for the same key.",
        "headers": {
            "Location": {"required": True, "description": "The session.", "schema": {"type": "string"}},
            "Idempotency-Replayed": {
                "description": "With a key: whether it was used before.",
                "schema": {"enum": ["true", "false"], "type": "string"},
            },
        },
        "content": {JSON: {"schema": ref(Created)}},
        "links": {
            "session": {"operationId": "showSession", "parameters": {"session_id": "$response.body#/session_id"}},
            "videos": {"operationId": "listVideos", "parameters": {"session_id": "$response.body#/session_id"}},
            "cancel": {"operationId": "cancelSession", "parameters": {"session_id": "$response.body#/session_id"}},
        },
    }
    example = {"search_query": "ceramic glaze", "result_limit": 50, "filters": {"orientation": "portrait"}}
    return {
        "operationId": "beginSession",
        "summary": "Begin a search",
        "parameters": [
            {
                "name": HEADER,
                "in": "header",
                "description": "The same key of the same caller is the same session, for as long as it is kept.",
                "schema": {"type": "string", "pattern": f"^{KEY.pattern}$"},
            }
        ],
        "requestBody": {"required": True, "content": {JSON: {"schema": ref(InitiateParameters), "example": example}}},
        "responses": {"201": created, **_problems(400, 401, 403, 408, 409, 413, 415, 422, 429, 503)},
        "callbacks": {"results": {"{$request.body#/callback_url}": {"post": _posted()}}},
    }


def _posted() -> Schema:
    def header(name: str, description: str) -> Schema:
        return {
            "name": name,
            "in": "header",
            "required": True,
            "description": description,
            "schema": {"type": "string"},
        }

    return {
        "operationId": "postResults",
        "summary": "What is posted to `callback_url`, by Standard Webhooks; see docs/webhooks.md",
        "parameters": [
            header("webhook-id", "The same whenever the same is posted again."),
            header("webhook-timestamp", "When it is posted, in seconds since 1970."),
            header("webhook-signature", "`v1,` and the signature by the secret of webhooks, one or more."),
        ],
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": {"oneOf": [ref(one) for one in WEBHOOK_TYPES]}}},
        },
        "responses": {
            "2XX": {"description": "It is taken. Answers are not read."},
            "410": {"description": "Nothing more of this session is wanted."},
            "default": {"description": "It is posted again, later: after `Retry-After` where that is longer."},
        },
    }


def _webhook_secret() -> Schema:
    answers = {"200": {"description": "One's own.", "content": {JSON: {"schema": ref(WebhookSecret)}}}}
    return {
        "operationId": "showWebhookSecret",
        "summary": "What the webhooks of one's sessions are signed with",
        "responses": {**answers, **_problems(401, 403, 429)},
    }


def _list() -> Schema:
    return {
        "operationId": "listSessions",
        "summary": "One's own sessions, the oldest first",
        "parameters": [
            _query("after", "`next_after` of the page before.", AFTER),
            _query("limit", "Of a page.", _number(1, MOST_SESSIONS, SESSIONS)),
        ],
        "responses": {
            "200": {"description": "A page.", "headers": _NEXT, "content": {JSON: {"schema": ref(SessionPage)}}},
            **_problems(401, 403, 422, 429, 503),
        },
    }


def _show() -> Schema:
    answers = {"200": {"description": "As it is now.", "content": {JSON: {"schema": ref(Session)}}}}
    return {
        "operationId": "showSession",
        "summary": "A session",
        "responses": {**answers, **_problems(401, 404, 410, 429, 503)},
    }


def _cancel() -> Schema:
    answers = {"200": {"description": "As it ended.", "content": {JSON: {"schema": ref(Session)}}}}
    return {
        "operationId": "cancelSession",
        "summary": "Cancel a session; one that is over stays as it is",
        "responses": {**answers, **_problems(401, 404, 410, 429, 503)},
    }


def _videos() -> Schema:
    return {
        "operationId": "listVideos",
        "summary": "The videos of a session, in the order in which they were found",
        "parameters": [
            _query("after", "The `sequence` of the last video that you have.", AFTER),
            _query(
                "limit",
                f"At most so many; by default {VIDEOS} in JSON, whose page also ends at about a megabyte, and all in "
                "NDJSON and CSV.",
                _number(1, MAX_RESULT_LIMIT),
            ),
            _query(
                "wait",
                "Where there is none yet: seconds to wait for the first, or for the end of the session.",
                _number(0, MOST_WAIT_S, 0),
            ),
        ],
        "responses": {
            "200": {
                "description": "Those there are.",
                "headers": _NEXT,
                "content": {
                    JSON: {"schema": ref(VideoPage)},
                    NDJSON: {
                        "schema": {"type": "string", "description": "A FoundVideo a line."},
                        "itemSchema": ref(FoundVideo),
                    },
                    CSV: {
                        "schema": {"type": "string", "description": "A header, then a row a video; see docs/rest.md."}
                    },
                },
            },
            **_problems(401, 404, 406, 410, 422, 429, 503),
        },
    }


def _events() -> Schema:
    last = {
        "name": LAST_EVENT_ID,
        "in": "header",
        "description": "What an EventSource sends of itself when it comes back; goes before `after`.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
    }
    return {
        "operationId": "followSession",
        "summary": "A session as server-sent events, to `completed`",
        "parameters": [last, _query("after", "The sequence after which to begin.", AFTER)],
        "responses": {
            "200": {
                "description": "Events `video`, `progress` and `completed`, whose data are the frames of the "
                "WebSocket; the stream ends after `completed`.",
                "content": {
                    "text/event-stream": {
                        "schema": {"type": "string"},
                        "itemSchema": {"anyOf": [ref(one) for one in EVENT_TYPES]},
                    }
                },
            },
            "204": {"description": "All has been seen, `completed` too; an EventSource does not come back."},
            **_problems(401, 404, 410, 422, 429),
        },
    }


def _status() -> Schema:
    answers = {"200": {"description": "As it is now.", "content": {JSON: {"schema": ref(SystemStatus)}}}}
    return {
        "operationId": "showStatus",
        "summary": "Every replica, the queues, and the sessions under way",
        "responses": {**answers, **_problems(401, 429)},
    }


def _session() -> Schema:
    return {"name": "session_id", "in": "path", "required": True, "schema": SESSION_ID}


def _query(name: str, description: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _number(least: int, most: int, default: int | None = None) -> Schema:
    number: Schema = {"type": "integer", "minimum": least, "maximum": most}
    return number if default is None else {**number, "default": default}


def _problems(*statuses: int) -> dict[str, Schema]:
    return {
        str(status): {
            "description": _PROBLEMS[status],
            "headers": _RETRY if status in (429, 503) else {},
            "content": {PROBLEM: {"schema": ref(ProblemDocument)}},
        }
        for status in statuses
    }
