"""The limits that the documents tell, held against the checks that keep them."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest

from libs.common.frames import InitiateParameters
from services.gateway.callers import Caller
from services.gateway.idempotency import keyed_session
from services.gateway.operations import InvalidOperation, parse_operation
from services.gateway.schemas import components, ref

PARAMETERS = {"components": {"schemas": components((InitiateParameters,))}, **ref(InitiateParameters)}


def filtered(**filters: Any) -> dict[str, Any]:
    return {"search_query": "x", "filters": filters}


@pytest.mark.parametrize(
    ("parameters", "passes"),
    [
        ({"search_query": "x"}, True),
        ({"search_query": "x" * 500}, True),
        ({"search_query": "x" * 501}, False),
        ({"search_query": ""}, False),
        ({"search_query": " "}, False),
        ({"search_query": None}, False),
        ({}, False),
        ({"search_query": "x", "url": None}, True),
        ({"search_query": "x", "url": "https://pin.it/x"}, False),
        ({"url": "https://pin.it/x"}, True),
        ({"url": "https://pin.it/x", "search_query": None}, True),
        ({"search_query": "x", "result_limit": 1}, True),
        ({"search_query": "x", "result_limit": 0}, False),
        ({"search_query": "x", "result_limit": 10_000}, True),
        ({"search_query": "x", "result_limit": 10_001}, False),
        ({"search_query": "x", "result_limit": None}, False),
        ({"search_query": "x", "new_only": True}, False),
        ({"search_query": "x", "new_only": True, "scope": "a"}, True),
        ({"search_query": "x", "new_only": True, "scope": "a" * 65}, False),
        ({"search_query": "x", "new_only": False, "scope": "a"}, False),
        ({"search_query": "x", "scope": "a"}, False),
        ({"search_query": "x", "scope": None}, True),
        (filtered(min_height=1), True),
        (filtered(min_height=0), False),
        (filtered(min_height=10_000), True),
        (filtered(min_height=10_001), False),
        (filtered(min_duration_s=0), True),
        (filtered(min_duration_s=-0.1), False),
        (filtered(max_duration_s=0), False),
        (filtered(max_duration_s=0.1), True),
        (filtered(orientation="round"), False),
        (filtered(colour="red"), False),
        (filtered(created_after=3), False),
    ],
)
def test_the_schema_lets_pass_what_is_accepted(parameters: dict[str, Any], passes: bool) -> None:
    assert jsonschema_rs.is_valid(PARAMETERS, parameters) is passes
    try:
        parse_operation(json.dumps({"operation": "initiate_extraction", "parameters": parameters}))
        accepted = True
    except InvalidOperation:
        accepted = False
    assert accepted is passes


def test_a_key_is_its_callers_own() -> None:
    ids = {keyed_session(Caller(owner=owner), key) for owner in ("", "a", "b") for key in ("k", "ab", "b")}
    assert len(ids) == 9
    assert keyed_session(Caller(owner="a"), "k") == keyed_session(Caller(owner="a"), "k")
    assert all(len(one) == 32 for one in ids)
