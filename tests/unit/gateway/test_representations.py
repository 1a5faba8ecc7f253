from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.messages import Kind, Pin, Video
from services.gateway.problems import Problem
from services.gateway.representations import FORMULA, csv_header, csv_row, ndjson_line, preferred
from services.gateway.resources import FoundVideo

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("TEXT/CSV", CSV),
        ("text/csv;q=0.4, application/json;q=0.5", JSON),
        ("text/csv;q=0.5, */*;q=0.1", CSV),
        ("application/json;q=0, */*", NDJSON),
        ("text/html, application/x-ndjson", NDJSON),
        ("text/csv; header=present", CSV),
    ],
)
def test_quality_values_are_respected(accept: str | None, chosen: str) -> None:
    assert preferred(accept) == chosen


@pytest.mark.parametrize("accept", ["text/html", "image/*", "application/json;q=0", "nonsense", "a/b/c"])
def test_what_cannot_be_given_is_406(accept: str) -> None:
    with pytest.raises(Problem) as refused:
        preferred(accept)
    assert (refused.value.status, refused.value.field) == (406, "Accept")


def found(title: str) -> FoundVideo:
    video = Video(id="a" * 32, url="https://v1.pinimg.com/a.mp4", kind=Kind.MP4, verified=True, pin=Pin(title=title))
    return FoundVideo(sequence=7, video=video)


@given(st.text())
def test_no_cell_begins_a_formula_and_no_line_breaks_a_line(title: str) -> None:
    import csv
    import io

    rows = list(csv.reader(io.StringIO((csv_header() + csv_row(found(title))).decode(), newline="")))
    assert len(rows) == 2 and len(rows[0]) == len(rows[1])
    assert not any(cell.startswith(FORMULA) for cell in rows[1])
    assert ndjson_line(found(title)).count(b"\n") == 1
