import re

import pytest

from tests.fake_pinterest import expected_results
from tests.fake_pinterest.cdn import rendition
from tests.fake_pinterest.clips import CLIPS, Clip, best_file
from tests.fake_pinterest.origins import REAL
from tests.fake_pinterest.signatures import make_signature
from tests.fake_pinterest.variants import every_rendition, renditions

by_name = pytest.mark.parametrize("clip", CLIPS, ids=[clip.name for clip in CLIPS])
LISTED_AND_REFUSED = ("iht-refused", "iht-gone")


def fetch(path: str) -> tuple[bytes, str] | None:
    folder, shards, name = re.fullmatch(r"(?:.*/)?videos/(\w+/[\w-]+)/(../../..)/(\S+)", path).groups()  # type: ignore[union-attr]
    return rendition(folder, shards, name)


def signature_of(clip: Clip) -> str:
    return make_signature(clip.name, CLIPS.index(clip), 0)


def test_what_is_expected_is_there() -> None:
    for video in expected_results("glaze pins:1000").videos:
        if video.path and video.hls:
            found, playlist = fetch(video.path), fetch(video.hls)
            assert found and playlist
            assert found[1] == ("video/mp4" if video.kind == "mp4" else "application/vnd.apple.mpegurl")
            assert playlist[0].startswith(b"#EXTM3U")


@by_name
def test_everything_in_a_master_playlist_is_there(clip: Clip) -> None:
    signature = signature_of(clip)
    master = f"videos/{clip.family}/hls/{signature[:2]}/{signature[2:4]}/{signature[4:6]}/{signature}.m3u8"
    folder = master.rpartition("/")[0]
    text = (fetch(master) or (b"", ""))[0].decode()
    playlists = re.findall(r"[0-9a-f]{32}_\w+\.m3u8", text)
    assert len(playlists) == len(clip.rungs) + 1
    for name in playlists:
        playlist = (fetch(f"{folder}/{name}") or (b"", ""))[0].decode()
        (file,) = set(re.findall(r"[0-9a-f]{32}_\w+\.cmf[av]", playlist))
        body = (fetch(f"{folder}/{file}") or (b"", ""))[0]
        length, start = map(int, re.findall(r"BYTERANGE:(\d+)@(\d+)", playlist)[-1])
        assert start + length == len(body)


@by_name
def test_what_is_listed_is_there_but_for_what_is_refused_on_purpose(clip: Clip) -> None:
    signature = signature_of(clip)
    listed = [REAL.media(template, signature) for template in renditions(signature, rich=True).values()]
    missing = [url for url in [*listed, *every_rendition(signature, REAL)] if fetch(url) is None]
    assert bool(missing) == (clip.name in LISTED_AND_REFUSED)


def test_the_tempting_guesses_fail() -> None:
    signature = make_signature("x", [clip.name for clip in CLIPS].index("iht-540"), 0)
    shards = f"{signature[:2]}/{signature[2:4]}/{signature[4:6]}"
    for path in ("mc/720p/{}.mp4", "iht/expMp4/{}_720w.mp4", "iht/720p/{}.mp4", "mc/hls/{}.m3u8", "iht/expMp4/{}.mp4"):
        assert fetch(f"videos/{path.format(f'{shards}/{signature}')}") is None
    assert fetch(f"videos/iht/expMp4/aa/bb/cc/{signature}_540w.mp4") is None
    assert fetch(f"videos/iht/hls/aa/aa/aa/{'a' * 32}.m3u8") is None


def test_every_trap_of_the_ladder_exists() -> None:
    best = {clip.name: best_file(clip) for clip in CLIPS}
    assert {name for name, path in best.items() if path is None} == {
        "iht-hevc",
        "iht-hevc-listed",
        "iht-hls",
        "iht-gone",
        "mc-hls",
    }
    assert best["iht-smallest"] == "iht/expMp4/{}_360w.mp4"
    assert best["iht-486w"] == "iht/expMp4/{}_486w.mp4"
    assert best["mc-t2"] == "mc/expMp4/{}_t2.mp4"
