from __future__ import annotations

import json
from typing import Any

import pytest

from libs.common.frames import InitiateExtraction, Ping, ResumeExtraction
from services.gateway.operations import InvalidOperation, parse_operation


def initiate(**parameters: Any) -> str:
    return json.dumps({"operation": "initiate_extraction", "parameters": parameters, "id": 7})


def test_the_operations_of_the_protocol_are_read() -> None:
    wanted = parse_operation(initiate(search_query="ceramic glaze", result_limit=50, colour="ignored"))
    assert isinstance(wanted, InitiateExtraction)
    assert (wanted.parameters.search_query, wanted.parameters.result_limit, wanted.id) == ("ceramic glaze", 50, 7)
    assert isinstance(parse_operation('{"operation": "ping"}'), Ping)
    resumed = parse_operation('{"operation": "resume_extraction", "parameters": {"session_id": "ab", "after": 812}}')
    assert isinstance(resumed, ResumeExtraction)
    assert resumed.parameters.after == 812


@pytest.mark.parametrize(
    ("text", "code", "field"),
    [
        ("hello", "invalid_json", "message"),
        ("", "invalid_json", "message"),
        ("x" * 1_000_000, "invalid_json", "message"),
        ("[" * 100_000, "invalid_json", "message"),
        ("[1]", "invalid_request", "message"),
        ("null", "invalid_request", "message"),
        ("{}", "invalid_request", "operation"),
        ('{"operation": 5}', "invalid_request", "operation"),
        ('{"operation": "explode"}', "unknown_operation", "operation"),
        ('{"operation": "initiate_extraction"}', "invalid_request", "parameters"),
        ('{"operation": "initiate_extraction", "parameters": []}', "invalid_request", "parameters"),
        (initiate(), "invalid_request", "parameters.search_query"),
        (initiate(search_query="  "), "invalid_request", "parameters.search_query"),
        (initiate(url=""), "invalid_request", "parameters.url"),
        (initiate(url=5), "invalid_request", "parameters.url"),
        (initiate(url="https://example.com/mia/"), "invalid_request", "parameters.url"),
        (initiate(url="https://www.pinterest.com/ideas/"), "invalid_request", "parameters.url"),
        (initiate(url="https://pin.it/a", search_query="vases"), "invalid_request", "parameters.url"),
        (initiate(url="https://pin.it/a", search_query=""), "invalid_request", "parameters.url"),
        (initiate(url="https://pinterest.com/search/pins/?q=" + "x" * 501), "invalid_request", "parameters.url"),
        (initiate(url="https://pin.it/a", result_limit=0), "invalid_request", "parameters.result_limit"),
        (initiate(search_query=5), "invalid_request", "parameters.search_query"),
        (initiate(search_query=None), "invalid_request", "parameters.search_query"),
        (initiate(search_query="x" * 1_000_000), "invalid_request", "parameters.search_query"),
        (initiate(search_query="x", result_limit=0), "invalid_request", "parameters.result_limit"),
        (initiate(search_query="x", result_limit=-1), "invalid_request", "parameters.result_limit"),
        (initiate(search_query="x", result_limit=10**9), "invalid_request", "parameters.result_limit"),
        (initiate(search_query="x", result_limit=10**30), "invalid_request", "parameters.result_limit"),
        (initiate(search_query="x", result_limit="abc"), "invalid_request", "parameters.result_limit"),
        (initiate(search_query="x", result_limit=1.5), "invalid_request", "parameters.result_limit"),
        (initiate(search_query="x", result_limit=True), "invalid_request", "parameters.result_limit"),
        ('{"operation": "cancel_extraction", "parameters": {}}', "invalid_request", "parameters.session_id"),
        (
            '{"operation": "cancel_extraction", "parameters": {"session_id": "a.>"}}',
            "invalid_request",
            "parameters.session_id",
        ),
        (
            '{"operation": "resume_extraction", "parameters": {"session_id": "a", "after": -1}}',
            "invalid_request",
            "parameters.after",
        ),
    ],
)
def test_a_refusal_names_the_field(text: str, code: str, field: str) -> None:
    with pytest.raises(InvalidOperation) as refused:
        parse_operation(text)
    assert (refused.value.code, refused.value.field) == (code, field)
    assert len(str(refused.value)) < 300


def test_a_refusal_echoes_the_id_where_it_can_be_read() -> None:
    with pytest.raises(InvalidOperation) as refused:
        parse_operation(initiate(search_query=""))
    assert refused.value.id == 7


@pytest.mark.parametrize("url", ["https://de.pinterest.com/mia/glazes/", "pin.it/abc", "http://127.0.0.1:88/pin/1/"])
def test_an_address_is_taken_instead_of_a_topic(url: str) -> None:
    wanted = parse_operation(initiate(url=url), "http://127.0.0.1:88")
    assert isinstance(wanted, InitiateExtraction)
    assert (wanted.parameters.search_query, wanted.parameters.url) == (None, url)


def test_a_refusal_of_an_address_says_what_is_wrong_with_it() -> None:
    with pytest.raises(InvalidOperation, match=r"^url cannot be read: example.com is not a host of Pinterest"):
        parse_operation(initiate(url="https://example.com/mia/"))
    with pytest.raises(InvalidOperation, match=r"^search_query or url is needed"):
        parse_operation(initiate())
    with pytest.raises(InvalidOperation, match=r"^url and search_query exclude each other"):
        parse_operation(initiate(url="https://pin.it/a", search_query="vases"))
