from __future__ import annotations

import json
from typing import Any

import pytest

from libs.common.frames import InitiateExtraction, Ping, ResumeExtraction
from libs.common.messages import Filters, Orientation
from services.gateway.filters import filters_of
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


def test_filters_and_a_scope_are_read() -> None:
    filters = {"min_duration_s": 5, "max_duration_s": 60.5, "min_height": 720, "orientation": "portrait"}
    more = {"with_captions": True, "exclude_promoted": True, "created_after": "2026-01-31T02:00:00+02:00"}
    wanted = parse_operation(
        initiate(search_query="x", filters={**filters, **more}, new_only=True, scope="daily-glazes")
    )
    assert isinstance(wanted, InitiateExtraction)
    assert (wanted.parameters.new_only, wanted.parameters.scope) == (True, "daily-glazes")
    assert filters_of(wanted.parameters.filters) == Filters(
        min_duration_s=5,
        max_duration_s=60.5,
        min_height=720,
        orientation=Orientation.PORTRAIT,
        with_captions=True,
        exclude_promoted=True,
        created_after="2026-01-31T00:00:00+00:00",
    )
    nothing = parse_operation(initiate(search_query="x", filters={"with_captions": False}))
    assert isinstance(nothing, InitiateExtraction)
    assert filters_of(nothing.parameters.filters) is None


def filtered(**filters: Any) -> str:
    return initiate(search_query="x", filters=filters)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (initiate(search_query="x", filters=[]), "filters"),
        (filtered(min_width=5), "filters.min_width"),
        (filtered(min_duration_s=-1), "filters.min_duration_s"),
        (filtered(min_duration_s="5"), "filters.min_duration_s"),
        (filtered(min_duration_s=9, max_duration_s=8.5), "filters.min_duration_s"),
        (filtered(max_duration_s=0), "filters.max_duration_s"),
        (filtered(min_height=0), "filters.min_height"),
        (filtered(min_height=720.5), "filters.min_height"),
        (filtered(min_height=10**6), "filters.min_height"),
        (filtered(orientation="upright"), "filters.orientation"),
        (filtered(with_captions="yes"), "filters.with_captions"),
        (filtered(exclude_promoted=1), "filters.exclude_promoted"),
        (filtered(created_after="yesterday"), "filters.created_after"),
        (filtered(created_after="2026-02-30"), "filters.created_after"),
        (filtered(created_after=2026), "filters.created_after"),
        (filtered(created_after="0001-01-01T00:00:00+14:00"), "filters.created_after"),
        (initiate(search_query="x", new_only=True), "scope"),
        (initiate(search_query="x", new_only="yes", scope="a"), "new_only"),
        (initiate(search_query="x", scope="a"), "scope"),
        (initiate(search_query="x", new_only=True, scope=""), "scope"),
        (initiate(search_query="x", new_only=True, scope="a.>"), "scope"),
        (initiate(search_query="x", new_only=True, scope="a" * 65), "scope"),
    ],
)
def test_a_filter_or_scope_that_cannot_be_kept_is_refused_by_name(text: str, field: str) -> None:
    with pytest.raises(InvalidOperation) as refused:
        parse_operation(text)
    assert (refused.value.code, refused.value.field) == ("invalid_request", f"parameters.{field}")
    assert field.rsplit(".", 1)[-1] in str(refused.value)
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
