"""How the benchmark of peers judges, on contenders whose conduct is known."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.peers import faults
from benchmarks.peers.contenders import Task, by_command
from benchmarks.peers.driver import video_addresses
from benchmarks.peers.environment import LOCK, versions
from benchmarks.peers.finding import Finding
from benchmarks.peers.tables import AS_THEY_COME, aims, fault_figures, fault_totals, figures_of
from benchmarks.peers.tally import POLITE, STANDING, WARM, Run, Tally
from benchmarks.peers.verify import is_h264, plays, verified
from benchmarks.results import RESULTS, kept
from tests.fake_pinterest import RunningSite, expected_results, running_site
from tests.fake_pinterest.playlists import MEDIA
from tests.fake_pinterest.signatures import clip_of, sharded

QUERY = "glaze pins:60"
EXPECTED = expected_results(QUERY)
FILES = [f"https://v1.pinimg.com{video.path}" for video in EXPECTED.videos if video.kind == "mp4"]
HEVC_ADDRESS = "https://v1.pinimg.com/videos/iht/hevcMp4V3/{}_720w.mp4"
SIGNATURES = [video.id for video in expected_results("glaze pins:400").videos if video.path]
LISTS = [f"https://v1.pinimg.com{video.hls}" for video in EXPECTED.videos if video.hls]


@pytest.fixture(scope="module")
def site() -> Iterator[RunningSite]:
    with running_site(tls=True) as site:
        yield site


def test_a_whole_film_plays_and_nothing_else() -> None:
    whole = (MEDIA / "clip_360x640.mp4").read_bytes()
    assert plays(whole[:65536])
    for other in ("video_360x640.m4s", "audio.m4s", "poster_0.jpg"):
        assert not plays((MEDIA / other).read_bytes())
    assert not plays(whole[:200]), "its index is cut off"
    assert not plays(whole.replace(b"ftyp", b"xtyp", 1))
    assert not plays(b"") and not plays(b"<html>")
    assert [is_h264((MEDIA / one).read_bytes()) for one in ("clip_360x640.mp4", "hevc.mp4", "av1.mp4")] == [
        True,
        False,
        False,
    ]


async def test_a_file_is_verified_by_fetching_it(site: RunningSite) -> None:
    there, absent = FILES[0], FILES[0].replace(".mp4", "_1080w.mp4")
    hevc = HEVC_ADDRESS.format(sharded(next(one for one in SIGNATURES if clip_of(one).name == "iht-hevc")))
    asked = {"a": [LISTS[0], absent, hevc, there], "b": [absent], "c": [LISTS[0]], "d": [], "e": [hevc]}
    assert await verified(site, asked) == ({"a", "e"}, {"a"})


def program(folder: Path, text: str) -> Path:
    """A contender that does as it is told."""
    path = folder / "contender"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return folder


async def run(folder: Path, site: RunningSite, text: str, **options: float) -> Finding:
    task = Task(query="", patience_s=options.pop("patience_s", 20.0), **options)  # type: ignore[arg-type]
    return await by_command(lambda _: ["contender"], site, task, program(folder, text))


async def test_what_a_contender_prints_is_counted_by_video_and_moment(site: RunningSite, tmp_path: Path) -> None:
    said = f"echo 'x {LISTS[0]} y'; echo '{FILES[0]}|{LISTS[1]}'; echo https://i.pinimg.com/736x/a.jpg"
    found = await run(tmp_path, site, f"{said}; echo oh >&2; exit 3")
    named = [re.findall(r"[0-9a-f]{32}", address)[0] for address in (LISTS[0], FILES[0], LISTS[1])]
    assert list(found.videos) == list(dict.fromkeys(named))
    assert len(found.came_s) == len(found.videos) and found.came_s == sorted(found.came_s)
    assert (found.ended, found.code, found.said) == ("error", 3, "oh") and 0 < found.total_s < 20
    assert (found.site_requests, found.cdn_requests) == (0, 0)


async def test_a_contender_that_hangs_is_killed_with_its_children(site: RunningSite, tmp_path: Path) -> None:
    found = await run(
        tmp_path, site, f"echo {FILES[0]}; sleep 3602 & echo $! >{tmp_path}/child; sleep 3601", patience_s=0.5
    )
    assert found.ended == "patience" and len(found.videos) == 1
    child = int((tmp_path / "child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


async def test_a_contender_that_takes_too_much_memory_is_ended(site: RunningSite, tmp_path: Path) -> None:
    found = await run(tmp_path, site, "exec sleep 3600", most_mb=0.01)
    assert found.ended == "memory" and found.memory_mb > 0.01


async def test_requests_are_those_of_the_run_alone(site: RunningSite, tmp_path: Path) -> None:
    addresses = ("https://www.pinterest.com/", FILES[0], "https://pin.it/board")
    asked = f"{sys.executable} -c 'import httpx2; " + "; ".join(f'httpx2.get("{url}")' for url in addresses) + "'"
    counts = [await run(tmp_path, site, asked) for _ in range(2)]
    assert [(one.site_requests, one.cdn_requests) for one in counts] == [(2, 1), (2, 1)]


def finding(found: str, ended: str = "", said: str = "") -> Finding:
    return Finding(videos={name: [] for name in found}, ended=ended, said=said)


def test_verdicts() -> None:
    whole = finding("abc")
    for found, expected in (
        (finding("abc"), "complete"),
        (finding("abc", said="a warning"), "complete"),
        (finding("ab"), "short"),
        (finding("ab", said="a warning"), "short, told"),
        (finding("ab", "error", "oh"), "error"),
        (finding("abc", "error", "oh"), "error"),
        (finding("ab", "requests.exceptions.HTTPError"), "error"),
        (finding("ab", "Traceback", "oh"), "traceback"),
        (finding("ab", "builtins.KeyError"), "traceback"),
        (finding("ab", "requests.exceptions.JSONDecodeError"), "traceback"),
        (finding("abc", "patience"), "hang"),
        (finding("ab", "memory"), "memory"),
    ):
        assert faults.verdict(found, whole, set("abc")) == expected, found


def test_how_a_contender_ends_undisturbed_is_no_sign_of_a_fault() -> None:
    usual = finding("abc", "error", "pin 1: no film\nno picture")
    assert faults.verdict(finding("ab", "error", "pin 22: no film"), usual, set("abc")) == "short"
    assert faults.verdict(finding("abc", "error", "no film"), usual, set("abc")) == "complete"
    assert faults.verdict(finding("ab", "error", "no picture"), usual, set("abc")) == "short"
    assert faults.verdict(finding("ab", "error", "no picture\nstatus 500"), usual, set("abc")) == "error"


def tally(site: RunningSite) -> Tally:
    """Ours with 10 files of 10, first after 0.2 s; a peer with 2, after 0.1 s, twice as slow at the same pace."""
    made = Tally(site)

    def add(name: str, phase: str, files: float, first_s: float, total_s: float) -> None:
        found = Finding(videos={"a": []}, came_s=[first_s, total_s], total_s=total_s, site_requests=6, load=1.5)
        made.runs[name, phase].append(Run(found, 100.0, files, files / 2))

    for n in range(3):
        add("ours", WARM, 100, 0.2 + n / 100, 4)
        add("ours, polite", POLITE, 100, 0.2, 4)
        add("ours, HEVC", WARM, 110, 0.2, 4)
        add("peer", WARM, 20, 0.1, 1)
        add("peer", POLITE, 20, 0.1, 8)
        add("slow", STANDING, 10, 3, 9)
    return made


def test_a_row_is_held_against_ours(site: RunningSite) -> None:
    found = {(one.of, one.name): one for one in figures_of(tally(site), ["ours", "peer", "slow"], AS_THEY_COME)}
    assert found["ours", "first, warm"].runs == [0.2, 0.21, 0.22] and found["ours", "first, warm"].ratio is None
    assert (found["peer", "all"].median, found["peer", "all"].ratio, found["peer", "all"].against) == (
        1.0,
        0.25,
        "ours",
    )
    assert found["slow", "first, standing start"].median == 3.0 and found["slow", "first, warm"].words == "-"
    assert (found["slow", "all"].ratio, found["slow", "all"].against) == (2.25, "ours")
    assert found["peer", "all"].loads == [1.5] * 3


def test_aims_are_held_against_the_best_peer(site: RunningSite) -> None:
    told: dict[str, dict[str, str]] = {}
    for one in aims(tally(site), "ours", "ours, HEVC", "ours, polite", ()):
        told.setdefault(one.of, {})[one.name] = one.words
    assert [(each["measured"], each["holds"]) for each in told.values()] == [
        ("100.0 %", "yes"),
        ("5.00", "yes"),
        ("5.00", "yes"),
        ("5.50", "yes"),
        ("0.210 s", "yes"),
        ("2.10", "no"),
        ("0.50", "yes"),
        ("1.00", "no"),  # at the peer's 0.75 requests a second its six would have taken as long as the peer
    ]


def cell(contender: str, times: str, verdict: str) -> faults.Verdict:
    return faults.Verdict(
        contender=contender, fault="e500", times=times, verdict=verdict, found=1, of=2, seconds=1, said=""
    )


def test_faults_are_told_once_and_for_ever_ours_first() -> None:
    verdicts = [cell("peer", "1", "short"), cell("peer", "always", "hang")]
    verdicts += [cell("pinstream", "1", "complete"), cell("pinstream", "always", "told: unreachable")]
    assert [(one.of, one.name, one.words) for one in fault_figures(verdicts)] == [
        ("500", "pinstream", "complete / told: unreachable"),
        ("500", "peer", "short / hang"),
    ]
    totals = {(one.of, one.name): one.words for one in fault_totals(verdicts)}
    assert totals["pinstream", "told"] == "0 / 1" and totals["peer", "short"] == "1 / 0"


def test_the_corpora_of_faults_are_struck_in_the_middle_and_have_no_quirk_of_their_own() -> None:
    for board in (False, True):
        feed = faults.Cell("e500", "always").feed(board)
        assert (feed.options.fault, feed.options.at, feed.options.times, feed.tag % 2) == ("e500", "middle", None, 1)
        undisturbed = faults.Cell("").feed(board)
        assert len(feed.entries()) == len(undisturbed.entries()) == faults.PINS
        assert board or feed.entries() == undisturbed.entries()


def test_every_video_that_a_pin_tells_of_is_seen() -> None:
    pin = json.loads(
        '{"videos": {"video_list": {"a": {"url": "https://v1.pinimg.com/a.m3u8"}}}, "images": "https://i.pinimg.com/x.jpg",'
        '"story": [{"video": [{"url": "https://v1.pinimg.com/b.mp4", "thumbnail": "https://i.pinimg.com/y.jpg"}]}]}'
    )
    assert list(video_addresses(pin)) == ["https://v1.pinimg.com/a.m3u8", "https://v1.pinimg.com/b.mp4"]


def test_the_peers_are_locked_by_hash_and_from_no_address() -> None:
    assert set(versions()) == {"gallery-dl", "pinterest-dl", "playwright", "py3-pinterest", "yt-dlp"}
    lock = LOCK.read_text()
    assert "://" not in lock and lock.count("==") <= lock.count("--hash=sha256:")


@pytest.mark.parametrize("name", [path.stem for path in RESULTS.glob("peers-*.json")])
def test_what_was_kept_of_the_peers_names_them(name: str) -> None:
    assert {"gallery-dl", "pinterest-dl", "py3-pinterest", "yt-dlp"} <= set(kept(name).versions)
