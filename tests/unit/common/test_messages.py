from __future__ import annotations

from pathlib import Path

import pytest

from libs.common import messages
from libs.common.errors import MalformedMessage
from libs.common.messages import Message, RawMedia, SearchRequest, decode, encode

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


def test_all_messages_are_frozen() -> None:
    media = RawMedia(session="s", item="1-0", signature="ab", pin=messages.Pin())
    with pytest.raises(AttributeError):
        media.item = "2-0"  # type: ignore[misc]
