from __future__ import annotations

import pytest

from libs.common import subjects
from libs.common.errors import MalformedMessage


@pytest.mark.parametrize("text", ["", "a.b", "a b", "*", ">", "ä", "x" * 129, "a\n"])
def test_no_user_text_that_is_not_a_token_enters_a_subject(text: str) -> None:
    with pytest.raises(MalformedMessage):
        subjects.raw("s", text)


def test_keys_are_read_back_from_the_subjects_they_were_made_into() -> None:
    assert subjects.record_key(subjects.record("s1", subjects.VIDEO, "ab")) == ("s1", "video", "ab")
    assert subjects.record_key(subjects.record("s1", subjects.CRAWLED)) == ("s1", "crawled", None)
    assert subjects.item_key(subjects.raw("s1", "12-0")) == ("s1", "12-0")
    assert subjects.item_key(subjects.direct("s1", "12-0")) == ("s1", "12-0")
