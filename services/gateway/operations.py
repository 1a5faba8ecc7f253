"""What a client sends, checked: every refusal names the field."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from libs.common.errors import PinstreamError
from libs.common.frames import (
    MAX_QUERY_CHARS,
    MAX_RESULT_LIMIT,
    CancelExtraction,
    InitiateExtraction,
    InitiateParameters,
    Operation,
    ResumeExtraction,
)
from libs.common.source import DEFAULT_SITE, NotASource, SearchSource, source_at
from libs.common.subjects import TOKEN
from services.gateway.filters import wrong_filter, wrong_scope
from services.gateway.webhooks.target import Receivers

OPERATIONS = ("initiate_extraction", "cancel_extraction", "resume_extraction", "ping")
MOST_CHARACTERS = 400  # of a refusal, which may repeat what was sent
MOST_NAME = 64  # characters of a field's name that is repeated
MAX_ID_BYTES = 256  # the id is echoed in every answer

_decoder: msgspec.json.Decoder[Operation] = msgspec.json.Decoder(Operation)
_missing = re.compile(r"missing required field `(?P<name>[^`]+)`|contains unknown field `(?P<unknown>[^`]*)`")
_path = re.compile(r" - at `\$\.?(?P<path>[^`]*)`")


class InvalidOperation(PinstreamError):
    """An operation that cannot be carried out; `id` is its own, where it has one that can be read."""

    def __init__(self, code: str, field: str, message: str, id_: Any = None) -> None:
        super().__init__(message[:MOST_CHARACTERS])
        self.code, self.field, self.id = code, field, id_


def parse_operation(text: str, site: str = DEFAULT_SITE, receivers: Receivers | None = None) -> Operation:
    """The operation in a text frame; addresses are Pinterest's or on `site`, webhooks' those of `receivers`.

    Raises InvalidOperation.
    """
    try:
        loose = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidOperation("invalid_json", "message", f"the frame is not JSON: {error}") from error
    if not isinstance(loose, dict):
        raise InvalidOperation("invalid_request", "message", "the frame must hold one JSON object")
    id_ = loose.get("id")
    if len(msgspec.json.encode(id_)) > MAX_ID_BYTES:
        raise InvalidOperation("invalid_request", "id", f"id is longer than {MAX_ID_BYTES} bytes")
    name = loose.get("operation")
    if name not in OPERATIONS:
        code = "invalid_request" if name is None or not isinstance(name, str) else "unknown_operation"
        raise InvalidOperation(code, "operation", f"operation must be one of {', '.join(OPERATIONS)}", id_)
    try:
        operation = _decoder.decode(text)
    except msgspec.ValidationError as error:
        field, message = _explain(str(error))
        raise InvalidOperation("invalid_request", field, message, id_) from error
    _check_values(operation, site, receivers or Receivers())
    return operation


def _explain(text: str) -> tuple[str, str]:
    """The field and the sentence in a validation error such as 'Expected `int`, got `str` - at `$.parameters.x`'."""
    path = _path.search(text)
    field = path["path"] if path else ""
    missing = _missing.search(text)
    if missing:
        name = (missing["name"] or missing["unknown"])[:MOST_NAME]
        field = f"{field}.{name}" if field else name
    return field or "message", f"{field or 'message'}: {_path.sub('', text)}"


def _check_values(operation: Operation, site: str, receivers: Receivers) -> None:
    def refuse(field: str, sentence: str) -> InvalidOperation:
        return InvalidOperation("invalid_request", f"parameters.{field}", f"{field} {sentence}", operation.id)

    match operation:
        case InitiateExtraction(parameters=wanted):
            if amiss := _amiss(wanted, site):
                raise refuse(*amiss)
            if not 1 <= wanted.result_limit <= MAX_RESULT_LIMIT:
                raise refuse("result_limit", f"must be from 1 to {MAX_RESULT_LIMIT}, not {wanted.result_limit}")
            if wrong := wrong_filter(wanted.filters) or wrong_scope(new_only=wanted.new_only, scope=wanted.scope):
                raise refuse(*wrong)
            if wanted.callback_url is not None and (why := receivers.amiss(wanted.callback_url)):
                raise refuse("callback_url", why)
        case CancelExtraction(parameters=named) | ResumeExtraction(parameters=named):
            if not TOKEN.fullmatch(named.session_id):
                raise refuse("session_id", "is not a session's id")
    if isinstance(operation, ResumeExtraction) and operation.parameters.after < 0:
        raise refuse("after", f"must be 0 or more, not {operation.parameters.after}")


def _amiss(wanted: InitiateParameters, site: str) -> tuple[str, str] | None:
    """The parameter that does not say what is looked for, and what is wrong with it."""
    if wanted.url is None:
        return _amiss_in("search_query", wanted.search_query)
    if wanted.search_query is not None:
        return "url", "and search_query exclude each other; give one of them"
    try:
        source = source_at(wanted.url, site)
    except NotASource as error:
        return "url", f"cannot be read: {error}"
    return _amiss_in("url", source.query, "asks for a topic that") if isinstance(source, SearchSource) else None


def _amiss_in(field: str, query: str | None, what: str = "") -> tuple[str, str] | None:
    said = f"{what} " if what else ""
    if query is None:
        return field, "or url is needed"
    if not query.strip():
        return field, f"{said}must not be empty"
    if len(query) > MAX_QUERY_CHARS:
        return field, f"{said}has {len(query)} characters; {MAX_QUERY_CHARS} are the most"
    return None
