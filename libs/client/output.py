"""What a search looks like: a live table on a terminal, or one record a line when piped."""

from __future__ import annotations

import csv
import sys
import time
from enum import StrEnum
from typing import Protocol, TextIO

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from libs.common.frames import Completed, Progress
from libs.common.messages import Kind, Video

LIVE_ROWS_SHARE = 0.6  # of the terminal's height: the newest videos, while the search runs
WIDE_COLUMNS = 110  # narrower terminals get the link on a line of its own
REFRESH_PER_SECOND = 8
CSV_COLUMNS = (
    "id", "kind", "verified", "url", "width", "height", "duration_ms", "size_bytes", "title", "pin_url", "creator",
)  # fmt: skip


class Format(StrEnum):
    """How videos are written."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"
    URLS = "urls"


class Renderer(Protocol):
    """Shows a search as it goes. `finish` is always called, last."""

    def video(self, video: Video) -> None:
        """A new video."""

    def progress(self, progress: Progress) -> None:
        """How far it is."""

    def finish(self, completed: Completed | None) -> None:
        """The end; None where the search was left before it."""


def renderer(format_: Format | None, limit: int) -> Renderer:
    """The renderer for `format_`; unset: a table on a terminal, else JSON lines."""
    if format_ is None:
        format_ = Format.TABLE if sys.stdout.isatty() else Format.JSONL
    if format_ is Format.TABLE:
        return TableRenderer(limit)
    return LineRenderer(format_, sys.stdout)


def summary_of(completed: Completed) -> dict[str, str]:
    """The numbers of a session, named and with their units."""
    summary = completed.summary
    first, elapsed = summary.first_video_s, summary.elapsed_s
    rate = f"{summary.found * 60 / elapsed:.0f}" if elapsed else "-"
    return {
        "found": str(summary.found),
        "repeats": str(summary.repeats),
        "unavailable": str(summary.unavailable),
        **({"seen before": str(summary.seen)} if summary.seen else {}),
        **({"passed over by filters": str(summary.filtered)} if summary.filtered else {}),
        "time to first video": "-" if first is None else f"{first:.2f} s",
        "videos a minute": rate,
        "took": "-" if elapsed is None else f"{elapsed:.1f} s",
        "ended by": str(completed.reason),
    }


class LineRenderer:
    """One line a video, flushed at once; the summary goes to standard error."""

    def __init__(self, format_: Format, out: TextIO) -> None:
        self.format, self.out = format_, out
        self._csv = csv.writer(out, lineterminator="\n")
        if format_ is Format.CSV:
            self._csv.writerow(CSV_COLUMNS)

    def video(self, video: Video) -> None:
        """A line."""
        match self.format:
            case Format.URLS:
                self.out.write(video.url + "\n")
            case Format.CSV:
                self._csv.writerow(_columns(video))
            case _:
                self.out.write(msgspec.json.encode(video).decode() + "\n")
        self.out.flush()

    def progress(self, progress: Progress) -> None:
        """Nothing."""

    def finish(self, completed: Completed | None) -> None:
        """The summary in one line."""
        if completed is not None:
            words = ", ".join(f"{name}: {value}" for name, value in summary_of(completed).items())
            print(words, file=sys.stderr, flush=True)


class TableRenderer:
    """A table that grows; while the search runs its newest rows are shown above the progress bar."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.console = Console()
        self.videos: list[Video] = []
        self.state = Progress(session_id="", found=0, repeats=0, unavailable=0, state="starting")
        self._live = Live(
            console=self.console, refresh_per_second=REFRESH_PER_SECOND, get_renderable=self._view, transient=True
        )
        self._live.start()

    def video(self, video: Video) -> None:
        """A row."""
        self.videos.append(video)

    def progress(self, progress: Progress) -> None:
        """The line below the bar."""
        self.state = progress

    def finish(self, completed: Completed | None) -> None:
        """The whole table and the summary stay on the screen."""
        self._live.stop()
        if self.videos:
            self.console.print(_table(self.videos, 1, self.console.width))
        if completed is not None:
            grid = Table.grid(padding=(0, 2))
            for name, value in summary_of(completed).items():
                grid.add_row(Text(name, style="dim"), Text(value))
            self.console.print(grid)

    def _view(self) -> Group:
        rows = max(3, int(self.console.height * LIVE_ROWS_SHARE / 2))
        first = max(0, len(self.videos) - rows)
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(justify="right", no_wrap=True)
        found = len(self.videos)
        bar.add_row(ProgressBar(total=self.limit, completed=found), Text(f"{found}/{self.limit}"))
        return Group(
            _table(self.videos[first:], first + 1, self.console.width), bar, Text(_state_line(self.state), style="dim")
        )


def _state_line(progress: Progress) -> str:
    line = (
        f"{progress.state}, {progress.pages} pages read, {progress.repeats} repeats, {progress.unavailable} unavailable"
    )
    if progress.seen:
        line += f", {progress.seen} seen before"
    if progress.filtered:
        line += f", {progress.filtered} passed over by filters"
    if progress.waiting_for:
        line += f"; waiting for {progress.waiting_for}"
        if progress.waiting_until:
            line += f", {max(0, progress.waiting_until - time.time()):.0f} s more"
    return line


def _table(videos: list[Video], first: int, width: int) -> Table:
    return _wide(videos, first) if width >= WIDE_COLUMNS else _narrow(videos, first)


def _narrow(videos: list[Video], first: int) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    table.add_column("video", overflow="fold")
    for number, video in enumerate(videos, start=first):
        words = Text(f"{_title(video)}  {size_of(video)}  {duration_of(video)}  ").append_text(_kind(video))
        table.add_row(str(number), Group(words, Text(video.url, style=f"link {video.url}", overflow="fold")))
    return table


def _title(video: Video) -> str:
    return video.pin.title or video.pin.description or "-"


def _wide(videos: list[Video], first: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    table.add_column("title", overflow="ellipsis", no_wrap=True, min_width=10, max_width=32)
    table.add_column("size", no_wrap=True, justify="right")
    table.add_column("length", no_wrap=True, justify="right")
    table.add_column("kind", no_wrap=True)
    table.add_column("link", overflow="fold", ratio=1, min_width=20)
    for number, video in enumerate(videos, start=first):
        table.add_row(
            str(number),
            Text(_title(video)),
            size_of(video),
            duration_of(video),
            _kind(video),
            Text(video.url, style=f"link {video.url}"),
        )
    return table


def _kind(video: Video) -> Text:
    if video.kind is Kind.MP4:
        return Text("mp4", style="green") if video.verified else Text("mp4?", style="yellow")
    return Text(str(video.kind), style="cyan")


def size_of(video: Video) -> str:
    """Such as `720x1280 1.2 MB`."""
    parts = [f"{video.width}x{video.height}"] if video.width and video.height else []
    if video.size_bytes:
        parts.append(
            f"{video.size_bytes / 1e6:.1f} MB" if video.size_bytes >= 1e5 else f"{video.size_bytes / 1e3:.0f} kB"
        )
    return " ".join(parts) or "-"


def duration_of(video: Video) -> str:
    """Such as `1:05`."""
    if not video.duration_ms:
        return "-"
    seconds = round(video.duration_ms / 1000)
    return f"{seconds // 60}:{seconds % 60:02}"


def _columns(video: Video) -> list[str]:
    creator = video.pin.creator.username if video.pin.creator else None
    values = (
        video.id, video.kind, str(video.verified).lower(), video.url, video.width, video.height, video.duration_ms,
        video.size_bytes, video.pin.title, video.pin.url, creator,
    )  # fmt: skip
    return ["" if value is None else str(value) for value in values]
