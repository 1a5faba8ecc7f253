"""What the hottest paths cost, counted: instructions and calls of Python, and memory.

    python -m tests.hot_paths [--write]

Each path is what a service does for one video between two messages, without I/O, by the services' own functions. No
time is taken: in a process of its own, with a fixed seed of hashes and no garbage collector, one version of Python
counts the same again, on any machine and under any load. What msgspec does in C is no instruction of Python; its
memory is counted. `--write` puts this version's counts into `tests/unit/work.toml`.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tomllib
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from libs.common import subjects
from libs.common.bus import Stored, _Client
from libs.common.filters import facts_of
from libs.common.frames import VideoFrame, encode_frame
from libs.common.messages import (
    Alternative,
    DirectMedia,
    Kind,
    RawMedia,
    VideoRecord,
    decode,
    encode,
)
from libs.common.session_state import SessionState, record_of
from libs.common.telemetry import extract as trace_of
from services.crawler.extract import extract
from services.transformer import address, links
from services.transformer.address import is_media
from services.transformer.links import Outcome
from services.transformer.resolve import current, current_places, legacy, listed, named_widths, of_video, older, streams
from tests.fake_pinterest import search_feed
from tests.fake_pinterest.origins import REAL
from tests.fake_pinterest.resources import shown_pin

ROOT = Path(__file__).parents[1]
COUNTS = Path(__file__).parent / "unit" / "work.toml"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SESSION = "0" * 32
PINS = 50  # a page
# Instructions and calls are the same in every run, memory differs by a hundredth (sets of addresses of objects). What
# is left is for a patch release of Python or of msgspec, and for changes too small to speak of; what became less than
# LEAST is to be written down too, so that it cannot grow again unseen.
MOST, LEAST = 1.05, 0.9
HEADERS = (
    b"Nats-Msg-Id: 0123456789abcdef-0\r\nNats-Expected-Last-Subject-Sequence: 0\r\n"
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nNats-Stream: KV_results\r\n\r\n"
)

Run = Callable[[], object]


class Work(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one video: instructions and calls of Python, calls of C from there included; the most kB that were held
    meanwhile, and the blocks of memory that are held by what comes of it."""

    instructions: float
    calls: float
    kb: float
    blocks: float


class Videos:
    """A page of pins as the site gives them, and what each stage makes of it."""

    def __init__(self, seed: str) -> None:
        feed = search_feed(f"{seed} pins:{PINS}")
        self.pins = [msgspec.json.decode(shown_pin(pin.id, feed.topic, REAL, False)) for pin in feed.catalogue()]
        self.raw = [one for one in self.read_page() if one.variants]
        self.direct = [self._resolved(one) for one in self.raw]
        self.stored = [self._stored(number, one) for number, one in enumerate(self.direct)]
        self.bodies = [encode(one) for one in self.raw]

    def paths(self) -> dict[str, Run]:
        """By what a service does: crawler, between services, transformer, dedup, gateway, and each at a message."""
        return {
            "extract": self.read_page,
            "pass on": self.pass_on,
            "candidates": self.candidates,
            "link": lambda: [self._resolved(one) for one in self.raw],
            "claim": lambda: [self._claimed(one) for one in self.direct],
            "frame": self.frames,
            "headers": lambda: [trace_of(_Client._parse_header_lines(HEADERS)) for _ in self.raw],
        }

    def read_page(self) -> list[RawMedia]:
        """The crawler's extractor."""
        return extract(self.pins, session=SESSION, site=REAL.site).media

    def pass_on(self) -> list[RawMedia]:
        """From the crawler's publish to the transformer's hands."""
        found = []
        for one in self.raw:
            subject, body = subjects.raw(one.session, one.item), encode(one)
            subjects.item_key(subject)
            found.append(decode(body, RawMedia))
        return found

    def candidates(self) -> list[object]:
        """All addresses that a transformer may ask for where nothing is there."""
        found: list[object] = []
        for one in self.raw:
            variants = [item for item in of_video(one.variants, one.signature) if is_media(item.url)]
            named = named_widths(variants)
            found.append([*listed(variants), *legacy(variants), *streams(variants)])
            found.append([guess for spot in current_places(variants) for guess in current(spot, None, named)])
            found.append([guess for spot in current_places(variants) for guess in older(spot, None)])
        return found

    def frames(self) -> list[str]:
        """From the session log's records to the texts of frames."""
        state, found = SessionState(), []
        for stored in self.stored:
            record = record_of(stored)
            if record is None or not isinstance(record.message, VideoRecord):
                raise TypeError(f"{stored.subject} is no video's record")
            state.apply(record)
            frame = VideoFrame(session_id=record.session, sequence=record.sequence, video=record.message.video)
            found.append(encode_frame(frame))
        return found

    @staticmethod
    def _resolved(raw: RawMedia) -> DirectMedia:
        variants = [item for item in of_video(raw.variants, raw.signature) if is_media(item.url)]
        link = Alternative(url=variants[0].url, kind=Kind.MP4, verified=True, codec="h264", width=720, height=1280)
        outcome = Outcome(stage=0, requests=1, link=link, seen=frozenset(item.url for item in variants))
        return links.direct(raw, outcome, variants)

    @staticmethod
    def _claimed(direct: DirectMedia) -> tuple[object, str, bytes]:
        video = decode(encode(direct), DirectMedia).video
        assert video is not None, "it was resolved"
        record = VideoRecord(item=direct.item, video=video, captured_at=direct.captured_at)
        return facts_of(video), subjects.record(direct.session, subjects.VIDEO, video.id), encode(record)

    @staticmethod
    def _stored(number: int, direct: DirectMedia) -> Stored:
        assert direct.video is not None, "it was resolved"
        record = VideoRecord(item=direct.item, video=direct.video, captured_at=direct.captured_at)
        return Stored(subjects.record(SESSION, subjects.VIDEO, direct.video.id), number + 1, 1.0, encode(record), {})


def instructions(path: Run) -> int:
    """Of Python's bytecode."""
    found = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal found
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        found += event == "opcode"
        return trace

    with _hook(sys.settrace, trace):
        path()
    return found


def calls(path: Run) -> int:
    """Of functions of Python, and of C from them."""
    found = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal found
        found += event in ("call", "c_call")

    with _hook(sys.setprofile, count):
        path()
    return found


@contextmanager
def _hook(install: Callable[[Any], None], function: Any) -> Iterator[None]:
    install(function)
    try:
        yield
    finally:
        install(None)


def memory(path: Run) -> tuple[int, int]:
    """The most bytes held meanwhile, and the blocks held by what it returns."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        path()
        most = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    gc.collect()
    there = sys.getallocatedblocks()
    kept = path()
    blocks = sys.getallocatedblocks() - there
    del kept
    return most, blocks


def count() -> dict[str, Work]:
    """Of each path. Addresses are new to the transformer's caches; all else is warm."""
    gc.disable()
    page, found = Videos("hot paths"), {}
    for name, path in page.paths().items():
        for _ in range(3):
            path()
        ran = []
        for measure in (instructions, calls, memory):
            for cached in vars(address).values():
                if hasattr(cached, "cache_clear"):
                    cached.cache_clear()
            ran.append(measure(path))
        found[name] = _work(ran, len(page.raw))
    return found


def _work(ran: list[Any], videos: int) -> Work:
    bytecode, called, (most, blocks) = ran
    return Work(
        instructions=round(bytecode / videos, 1),
        calls=round(called / videos, 1),
        kb=round(most / 1000 / videos, 3),
        blocks=round(blocks / videos, 2),
    )


def counted() -> dict[str, Work]:
    """As `count` in a process of its own, where no other thread allocates and hashes are always the same."""
    environ = {**os.environ, "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "tests.hot_paths", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, check=True, timeout=60)
    return msgspec.json.decode(done.stdout, type=dict[str, Work])


def moved(before: Work, after: Work) -> dict[str, str]:
    """What of a path is no longer as it was written down, in words."""
    found = {}
    for name, was in msgspec.structs.asdict(before).items():
        ratio = getattr(after, name) / was
        if not LEAST <= ratio <= MOST:
            found[name] = f"{was:g} a video were written down, {getattr(after, name):g} are counted, x{ratio:.3f}"
    return found


def written() -> dict[str, dict[str, Work]]:
    """What was counted when it was last written down, by version of Python."""
    return msgspec.convert(tomllib.loads(COUNTS.read_text()), dict[str, dict[str, Work]])


def write(found: dict[str, Work]) -> None:
    """Puts them in the place of this version's."""
    text = COUNTS.read_text()
    lines = [text[: text.index("\n[")] if "\n[" in text else text.rstrip(), ""]
    for version, paths in sorted({**written(), PYTHON: found}.items()):
        for name, work in paths.items():
            lines.append(f'["{version}"."{name}"]')
            lines += [f"{field} = {value:g}" for field, value in msgspec.structs.asdict(work).items()] + [""]
    COUNTS.write_text("\n".join(lines))


def main() -> None:
    """Print, or write."""
    if "--json" in sys.argv:
        sys.stdout.buffer.write(msgspec.json.encode(count()))
        return
    found = counted()
    if "--write" in sys.argv:
        write(found)
    for name, work in found.items():
        sys.stdout.write(f"{name:12} {work}\n")


if __name__ == "__main__":
    main()
