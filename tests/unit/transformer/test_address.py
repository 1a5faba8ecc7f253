import json

import pytest

from services.transformer.address import codec_of, is_master, media_in, place, places, suffix

SIG = "737c64f1ec9401ae9d71c55877e9a129"
SHARD = "73/7c/64"
CDN = "https://v1.pinimg.com/videos"
MP4 = f"{CDN}/iht/expMp4/{SHARD}/{SIG}_720w.mp4"


@pytest.mark.parametrize("name", [f"{SIG}.m3u8", f"{SIG}_240w.m3u8", f"{SIG}_480w.cmfv", f"{SIG}_audio.m3u8"])
def test_any_piece_of_a_video_tells_where_its_master_is(name: str) -> None:
    spot = place(f"{CDN}/mc/hls/{SHARD}/{name}?token=1#t=2")
    assert spot is not None
    assert spot.legacy
    assert spot.master == f"{CDN}/mc/hls/{SHARD}/{SIG}.m3u8"


@pytest.mark.parametrize("folder", ["h265", "h265-pt", "av1-control-v2", "hls"])
def test_streams_in_other_codecs_tell_where_the_h264_master_is(folder: str) -> None:
    spot = place(f"{CDN}/iht/{folder}/{SHARD}/{SIG}.mpd")
    assert spot is not None
    assert spot.master == f"{CDN}/iht/hls/{SHARD}/{SIG}.m3u8"


def test_captions_and_posters_are_no_place_for_a_video() -> None:
    assert place(f"{CDN}/captions/en-us/{SHARD}/{SIG}.vtt") is None
    assert place(f"https://i.pinimg.com/videos/thumbnails/originals/{SHARD}/{SIG}.0000000.jpg") is None


def test_the_origin_and_a_prefix_of_it_are_kept() -> None:
    spot = place(f"http://127.0.0.1:8800/cdn/videos/iht/hls/{SHARD}/{SIG}.m3u8")
    assert spot is not None
    assert spot.at("720p", ".mp4") == f"http://127.0.0.1:8800/cdn/videos/iht/720p/{SHARD}/{SIG}.mp4"


def test_legacy_places_come_first_and_once() -> None:
    urls = [f"{CDN}/iht/hls/{SHARD}/{SIG}.m3u8", f"{CDN}/mc/hls/{SHARD}/{SIG}.m3u8", MP4]
    assert [spot.family for spot in places(urls)] == ["mc", "iht"]


@pytest.mark.parametrize(
    ("folder", "name", "key", "codec"),
    [
        ("iht/expMp4", f"{SIG}_720w.mp4", "V_720P", "h264"),
        ("iht/hevcMp4V3", f"{SIG}_720w.mp4", "V_720P", "hevc"),
        ("iht/h265-pt-mp4", f"{SIG}_720w_t1.mp4", "", "hevc"),
        ("iht/av1Mp4-enabled-v2", f"{SIG}_240w.mp4", "", "av1"),
        ("iht/expMp4", f"{SIG}_720w.mp4", "V_HEVC_MP4_T1_V2", "hevc"),
    ],
)
def test_the_codec_is_told_by_folder_and_key(folder: str, name: str, key: str, codec: str) -> None:
    assert codec_of(f"{CDN}/{folder}/{SHARD}/{name}", key) == codec


def test_only_a_whole_playlist_is_a_master() -> None:
    assert is_master(f"{CDN}/iht/hls/{SHARD}/{SIG}.m3u8")
    assert not is_master(f"{CDN}/iht/hls/{SHARD}/{SIG}_240w.m3u8")
    assert suffix(f"{CDN}/x.MP4?a=b.jpg") == ".mp4"


def _nested(text: str) -> str:
    return json.dumps(json.dumps({"v720P": {"url": text}}).replace("/", "\\/"))


@pytest.mark.parametrize(
    "text",
    [
        f'{{"url": "{MP4}"}}',
        json.dumps({"url": MP4}).replace("/", "\\/"),
        json.dumps({"url": MP4}).replace("/", "\\u002F"),
        json.dumps({"url": MP4}).replace("/", "\\\\u002f").replace(":", "\\\\u003A"),
        _nested(MP4),
        f'<meta property="og:video" content="{MP4}">',
        f"<video src={MP4}></video>",
        f"&quot;{MP4.replace('/', '&#x2F;')}&quot;,",
        MP4.replace("/", "%2F").replace(":", "%3A"),
        MP4.replace("https:", '"'),
        f"videoUrls:[{MP4},https://v1.pinimg.com/videos/iht/hls/{SHARD}/x.m3u8]",
    ],
)
def test_media_is_found_however_it_is_escaped(text: str) -> None:
    assert media_in(text) == {SIG: [MP4]}


def test_posters_and_captions_in_a_page_are_no_media() -> None:
    poster = f"https://i.pinimg.com/videos/thumbnails/originals/{SHARD}/{SIG}.0000000.jpg"
    assert media_in(f'{{"a": "{poster}", "b": "{CDN}/captions/en-us/{SHARD}/{SIG}.vtt"}}') == {}
