from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from libs.common import messages
from libs.common.errors import MalformedMessage, NewerVersion
from libs.common.messages import (
    CrawledRecord,
    Kind,
    Message,
    RawMedia,
    Reason,
    SearchRequest,
    VideoRecord,
    decode,
    encode,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "messages"
TYPES = {type_.__name__: type_ for type_ in Message.__subclasses__()}


@pytest.mark.parametrize("name", sorted(TYPES))
def test_every_message_ever_published_decodes_for_ever(name: str) -> None:
    files = sorted(GOLDEN.glob(f"{name}.*.json"))
    assert files, f"no golden file of {name}"
    for file in files:
        message = decode(file.read_bytes(), TYPES[name])
        assert decode(encode(message), TYPES[name]) == message


def test_golden_files_are_of_known_messages() -> None:
    assert {file.name.split(".")[0] for file in GOLDEN.glob("*.json")} == set(TYPES)


def test_unknown_fields_are_ignored() -> None:
    body = b'{"session":"s","query":"q","result_limit":1,"requested_at":0,"colour":"red"}'
    assert decode(body, SearchRequest).query == "q"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "SearchRequest"),
        (b"\xff\xfe", "SearchRequest"),
        (b"[]", "SearchRequest"),
        (b'{"session":"s","query":"q","requested_at":0}', "result_limit"),
        (b'{"session":"s","query":7,"result_limit":1,"requested_at":0}', "query"),
        (b'{"version":2,"session":"s","query":"q","result_limit":1,"requested_at":0}', "version 2"),
    ],
)
def test_what_is_no_message_is_refused_by_name(body: bytes, named: str) -> None:
    with pytest.raises(MalformedMessage, match=named):
        decode(body, SearchRequest)


@pytest.mark.parametrize("name", sorted(TYPES))
def test_what_a_later_minor_version_adds_is_passed_over(name: str) -> None:
    for file in sorted(GOLDEN.glob(f"{name}.*.json")):
        known = json.loads(file.read_bytes())
        grown = json.dumps(_grown(known)).encode()
        assert decode(grown, TYPES[name]) == decode(file.read_bytes(), TYPES[name])


def _grown(value: Any) -> Any:
    """`value` with a field more in each of its structs, a map of captions apart."""
    if isinstance(value, list):
        return [_grown(one) for one in value]
    if isinstance(value, dict):
        return {key: one if key == "captions" else _grown(one) for key, one in value.items()} | {"later": {"x": [1]}}
    return value


@pytest.mark.parametrize("name", sorted(TYPES))
def test_a_higher_major_version_is_refused_clearly_whatever_else_the_body_holds(name: str) -> None:
    with pytest.raises(NewerVersion, match=f"{name}: version 2 is newer than 1"):
        decode(b'{"version":2,"everything":"else"}', TYPES[name])


def test_a_reason_that_is_not_known_yet_counts_as_a_failure() -> None:
    record = decode(b'{"version":1,"reason":"eclipsed","items":3}', CrawledRecord)
    assert record.reason is Reason.FAILED
    with pytest.raises(MalformedMessage, match="reason"):
        decode(b'{"version":1,"reason":7,"items":3}', CrawledRecord)


def test_a_kind_that_is_not_known_yet_is_a_video_all_the_same() -> None:
    body = b'{"version":1,"item":"1-0","video":{"id":"a","url":"u","kind":"dash","verified":true}}'
    assert decode(body, VideoRecord).video.kind is Kind.OTHER


def test_all_messages_are_frozen() -> None:
    media = RawMedia(session="s", item="1-0", signature="ab", pin=messages.Pin())
    with pytest.raises(AttributeError):
        media.item = "2-0"  # type: ignore[misc]


def test_what_was_not_found_is_a_failure_with_a_reason_of_its_own() -> None:
    record = decode((GOLDEN / "CrawledRecord.1-not-found.json").read_bytes(), CrawledRecord)
    assert record.reason is Reason.NOT_FOUND
    assert record.reason.failed
