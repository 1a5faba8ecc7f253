"""What a request over HTTP asks for, checked: every refusal names the field."""

from __future__ import annotations

import asyncio
import re

import msgspec
from starlette.requests import ClientDisconnect, Request

from libs.common.frames import InitiateExtraction, InitiateParameters
from libs.common.subjects import TOKEN
from services.gateway.idempotency import HEADER, KEY, MOST_CHARACTERS
from services.gateway.operations import InvalidOperation, parse_operation
from services.gateway.problems import Problem
from services.gateway.webhooks.target import Receivers

MOST_BODY_BYTES = 64 * 1024  # a query of 500 characters and all filters are two kB
BODY_WITHIN_S = 10.0
MOST_SEQUENCE = 2**53 - 1  # what every client can say in JSON; the broker counts on to 2**64
LAST_EVENT_ID = "Last-Event-ID"

_number = re.compile(r"[0-9]{1,16}")
_path = "parameters."  # what the same fields are under in a frame


def session_in(request: Request) -> str:
    """The session that the path names; what cannot be an id is nobody's."""
    session = str(request.path_params["session_id"])
    if not TOKEN.fullmatch(session):
        raise Problem(404, "unknown_session", "no record of that session is left", field="session_id")
    return session


def number_in(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A number in the query."""
    return _number_of(request.query_params.get(name), name, default, least, most)


def after_in(request: Request) -> int:
    """The sequence after which a client wants to go on."""
    return number_in(request, "after", 0, 0, MOST_SEQUENCE)


def last_event_in(request: Request) -> int:
    """Likewise of an EventSource: what it saw last, on coming back, goes before what its address says."""
    seen = request.headers.get(LAST_EVENT_ID)
    return _number_of(seen, LAST_EVENT_ID, 0, 0, MOST_SEQUENCE) if seen else after_in(request)


def _number_of(text: str | None, field: str, default: int, least: int, most: int) -> int:
    if text is None:
        return default
    if not _number.fullmatch(text) or not least <= int(text) <= most:
        upper = f"from {least} to {most}" if most < MOST_SEQUENCE else f"of {least} or more"
        raise Problem(422, "invalid_request", f"{field} must be a whole number {upper}", field=field)
    return int(text)


def key_in(request: Request) -> str | None:
    """The idempotency key, if there is one."""
    key = request.headers.get(HEADER)
    if key is not None and not KEY.fullmatch(key):
        sentence = f"{HEADER} must be 1 to {MOST_CHARACTERS} visible ASCII characters"
        raise Problem(422, "invalid_request", sentence, field=HEADER)
    return key


async def wanted_in(request: Request, site: str, receivers: Receivers) -> InitiateParameters:
    """The search that the body asks for: an object such as the `parameters` of `initiate_extraction`."""
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, "unsupported_media_type", "the body must be application/json", field="Content-Type")
    body = await _body(request)
    try:
        parameters = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Problem(400, "invalid_json", f"the body is not JSON: {error}", field="body") from error
    if not isinstance(parameters, dict):
        raise Problem(422, "invalid_request", "the body must be one JSON object", field="body")
    frame = msgspec.json.encode({"operation": "initiate_extraction", "parameters": parameters}).decode()
    try:
        operation = parse_operation(frame, site, receivers)
    except InvalidOperation as error:
        field, detail = error.field.removeprefix(_path), str(error).removeprefix(_path)
        raise Problem(422, error.code, detail, field=field) from error
    assert isinstance(operation, InitiateExtraction)
    return operation.parameters


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for piece in request.stream():
                body += piece
                if len(body) > MOST_BODY_BYTES:
                    detail = f"the body has more than {MOST_BODY_BYTES} bytes"
                    raise Problem(413, "too_large", detail, field="body", headers={"Connection": "close"})
    except TimeoutError as error:
        detail = f"the body did not come within {BODY_WITHIN_S:g} s"
        raise Problem(408, "timeout", detail, field="body", headers={"Connection": "close"}) from error
    except ClientDisconnect as error:
        raise Problem(400, "invalid_request", "the body did not come to its end", field="body") from error
    return bytes(body)
