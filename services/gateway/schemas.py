"""JSON Schemas of the types of the gateway's interfaces, for the documents that describe them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import msgspec

from libs.common.frames import MAX_CALLBACK_CHARS, MAX_QUERY_CHARS, MAX_RESULT_LIMIT
from libs.common.source import MAX_URL_CHARS
from libs.common.subjects import TOKEN
from services.gateway.filters import MOST_HEIGHT, SCOPE

Schema = dict[str, Any]

REF = "#/components/schemas/{name}"

SESSION_ID: Schema = {"type": "string", "pattern": f"^{TOKEN.pattern}$"}
AFTER: Schema = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1, "default": 0}

# What is checked by hand, so that a refusal can say more than a schema does. A test holds it against the checks.
_LIMITS: dict[str, dict[str, Schema]] = {
    "InitiateParameters": {
        "search_query": {"minLength": 1, "maxLength": MAX_QUERY_CHARS, "pattern": r"\S"},
        "url": {"maxLength": MAX_URL_CHARS},
        "result_limit": {"minimum": 1, "maximum": MAX_RESULT_LIMIT},
        "scope": {"pattern": f"^{SCOPE.pattern}$"},
        "callback_url": {"maxLength": MAX_CALLBACK_CHARS, "format": "uri"},
    },
    "FilterParameters": {
        "min_duration_s": {"minimum": 0},
        "max_duration_s": {"exclusiveMinimum": 0},
        "min_height": {"minimum": 1, "maximum": MOST_HEIGHT},
        "created_after": {"anyOf": [{"format": "date"}, {"format": "date-time"}]},
    },
    "CancelParameters": {"session_id": SESSION_ID},
    "ResumeParameters": {"session_id": SESSION_ID, "after": AFTER},
}

_EITHER: Schema = {
    "oneOf": [
        {"required": [one], "properties": {one: {"type": "string"}, other: {"type": "null"}}}
        for one, other in (("search_query", "url"), ("url", "search_query"))
    ],
    "if": {"required": ["new_only"], "properties": {"new_only": {"const": True}}},
    "then": {"required": ["scope"], "properties": {"scope": {"type": "string"}}},
    "else": {"properties": {"scope": {"type": "null"}}},
}


def ref(type_: type) -> Schema:
    """A reference to the schema of a type."""
    return {"$ref": REF.format(name=type_.__name__)}


def components(types: Sequence[type]) -> dict[str, Schema]:
    """The schemas of `types` and of all that they hold, by name."""
    _, found = msgspec.json.schema_components(types, ref_template=REF)
    for name, schema in found.items():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
        for member, limits in _LIMITS.get(name, {}).items():
            _limit(schema["properties"][member], limits)
    if "InitiateParameters" in found:
        found["InitiateParameters"] |= _EITHER
    return found


def _limit(schema: Schema, limits: Schema) -> None:
    """Narrows a schema, or that of its branches that is not null."""
    branches = [branch for branch in schema.get("anyOf", []) if branch != {"type": "null"}] or [schema]
    for branch in branches:
        branch.update(limits)
