"""Holding what arrived against the stand-in's right answer."""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlsplit

from libs.common.messages import Kind, Video
from tests.fake_pinterest import Expected


def assert_right(videos: list[Video], expected: Expected) -> None:
    """Every unique video arrived, once, of the right kind, verified, and nothing else."""
    wanted = {video.id: video for video in expected.videos}
    arrived = {video.url if video.kind is Kind.EMBED else video.id: video for video in videos}
    counts = Counter(video.id for video in videos)
    assert [id_ for id_, count in counts.items() if count > 1] == []
    files = {id_: video for id_, video in wanted.items() if video.kind != "embed"}
    assert set(files) - set(arrived) == set(), "lost"
    assert {id_ for id_, video in arrived.items() if video.kind is not Kind.EMBED} - set(files) == set(), "not there"
    assert len([video for video in videos if video.kind is Kind.EMBED]) == len(wanted) - len(files)
    for id_, video in files.items():
        found = arrived[id_]
        assert (found.kind, found.verified) == (video.kind, True), f"{id_}: {video.clip}"
        assert urlsplit(found.url).path == video.path, f"{id_}: {video.clip}"
