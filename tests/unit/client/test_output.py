from __future__ import annotations

import csv
import io
import json

import pytest

from libs.client.output import CSV_COLUMNS, Format, LineRenderer, TableRenderer, duration_of, size_of, summary_of
from libs.common.frames import Completed, Progress, Summary
from libs.common.messages import Kind, Pin, Reason, Video

VIDEO = Video(
    id="ab",
    url="https://v1.pinimg.com/videos/iht/expMp4/73/7c/64/737c64f1ec9401ae9d71c55877e9a129_720w.mp4",
    kind=Kind.MP4,
    verified=True,
    width=720,
    height=1280,
    duration_ms=65_400,
    size_bytes=1_234_567,
    pin=Pin(id="1", title='A "glaze",\nblue [bold]'),
)
BARE = Video(id="cd", url="https://youtu.be/x", kind=Kind.EMBED, verified=False)


def test_sizes_and_durations_are_for_people() -> None:
    assert size_of(VIDEO) == "720x1280 1.2 MB"
    assert duration_of(VIDEO) == "1:05"
    assert (size_of(BARE), duration_of(BARE)) == ("-", "-")


def test_what_was_seen_before_or_passed_over_is_told_where_there_is_any() -> None:
    def words(**more: int) -> dict[str, str]:
        summary = Summary(found=1, repeats=0, unavailable=0, items=1, **more)
        return summary_of(Completed(session_id="s", sequence=1, reason=Reason.LIMIT, summary=summary))

    assert words().keys().isdisjoint({"seen before", "passed over by filters"})
    assert words(seen=3, filtered=4).items() >= {"seen before": "3", "passed over by filters": "4"}.items()


def test_each_line_is_a_whole_record() -> None:
    out = io.StringIO()
    json_lines = LineRenderer(Format.JSONL, out)
    for video in (VIDEO, BARE):
        json_lines.video(video)
    assert [json.loads(line)["id"] for line in out.getvalue().splitlines()] == ["ab", "cd"]


def test_csv_is_read_back_as_it_was_written() -> None:
    out = io.StringIO()
    rows = LineRenderer(Format.CSV, out)
    for video in (VIDEO, BARE):
        rows.video(video)
    header, first, second = csv.reader(io.StringIO(out.getvalue()))
    assert tuple(header) == CSV_COLUMNS
    assert dict(zip(header, first, strict=True))["title"] == VIDEO.pin.title
    assert dict(zip(header, second, strict=True))["width"] == ""


@pytest.mark.parametrize("columns", ["40", "60", "100", "200"])
def test_the_table_keeps_every_link_whole(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    table = TableRenderer(limit=2)
    table.video(VIDEO)
    table.progress(Progress(session_id="s", found=1, repeats=0, unavailable=0, state="waiting", waiting_for="x"))
    table.video(BARE)
    table.finish(
        Completed(
            session_id="s",
            sequence=9,
            reason=Reason.LIMIT,
            summary=Summary(found=2, repeats=0, unavailable=0, items=2, first_video_s=0.5, elapsed_s=2.0),
        )
    )
    shown = capsys.readouterr().out
    letters = "".join(shown.split())
    assert VIDEO.url in letters
    assert BARE.url in letters
    assert "[bold]" in shown
    assert "0.50s" in letters
    assert "videosaminute60" in letters
