"""HLS masters, media playlists and DASH manifests: byte ranges over one file, sound and picture apart."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from .clips import Clip, Size

MEDIA = Path(__file__).parent / "media"
# True to the files in `media/`: H.264 High 3.1 with AAC-LC, where Pinterest's own say avc1.64081F,mp4a.40.29.
_CODECS = "avc1.64001F,mp4a.40.2"
_BANDWIDTHS = {"240w": 257_832, "360w": 413_120, "480w": 655_360, "486w": 655_360, "540w": 718_000, "720w": 1_000_000}


def master(clip: Clip, signature: str) -> str:
    lines = [
        "#EXTM3U",
        f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio1",NAME="1",AUTOSELECT=YES,URI="{signature}_audio.m3u8",CHANNELS="2"',
    ]
    for rung in clip.rungs:
        width, height = clip.size(rung)
        lines += [
            f'#EXT-X-STREAM-INF:BANDWIDTH={_BANDWIDTHS[rung]},CODECS="{_CODECS}",'
            f'RESOLUTION={width}x{height},AUDIO="audio1"',
            f"{signature}_{rung}.m3u8",
        ]
    return "\n".join([*lines, ""])


def hevc_master(signature: str) -> str:
    stream = '#EXT-X-STREAM-INF:BANDWIDTH=300000,CODECS="hvc1.1.6.L90.90",RESOLUTION=540x960'
    return f"#EXTM3U\n{stream}\n{signature}_540w.m3u8\n"


def video_playlist(size: Size, file: str) -> str:
    return _pointed_at(f"video_{size[0]}x{size[1]}", file)


def audio_playlist(file: str) -> str:
    return _pointed_at("audio", file)


def hevc_playlist(file: str) -> str:
    return _pointed_at("video_hevc", file)


def dash_manifest(file: str) -> str:
    playlist = hevc_playlist(file)
    first = _inclusive(*re.findall(r'MAP:.*BYTERANGE="(\d+)@(\d+)"', playlist)[0])
    segments = "".join(
        f'<SegmentURL mediaRange="{_inclusive(length, start)}"/>'
        for length, start in re.findall(r"#EXT-X-BYTERANGE:(\d+)@(\d+)", playlist)
    )
    return (
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT3S" minBufferTime="PT1S" profiles="urn:mpeg:dash:profile:full:2011">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="300000" width="540" '
        f'height="960" codecs="hvc1.1.6.L90.90"><BaseURL>{file}</BaseURL><SegmentList duration="1">'
        f'<Initialization range="{first}"/>{segments}</SegmentList></Representation></AdaptationSet></Period></MPD>\n'
    )


def captions() -> str:
    return "WEBVTT\n\n00:00.000 --> 00:01.500\nSlow cooling\n\n00:01.500 --> 00:03.000\nmakes the colour.\n"


@lru_cache(maxsize=64)
def _playlist(name: str) -> str:
    return (MEDIA / f"{name}.m3u8").read_text()


def _pointed_at(name: str, file: str) -> str:
    return _playlist(name).replace(f"{name}.m4s", file)


def _inclusive(length: str, start: str) -> str:
    return f"{start}-{int(start) + int(length) - 1}"
