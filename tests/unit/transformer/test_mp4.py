from __future__ import annotations

import random

import pytest

from services.transformer.mp4 import Measure, measure
from tests.fake_pinterest.playlists import MEDIA

BEGINNING = (MEDIA / "clip_486x864.mp4").read_bytes()[:16_384]


@pytest.mark.parametrize("name", ["234x416", "360x640", "486x864", "540x960", "648x1152", "720x1280", "720x406"])
def test_a_real_file_says_its_size_and_its_duration(name: str) -> None:
    width, height = map(int, name.split("x"))
    beginning = (MEDIA / f"clip_{name}.mp4").read_bytes()[:16_384]
    assert measure(beginning) == Measure(width, height, 3_000)


def test_a_picture_that_is_turned_is_measured_as_it_is_shown() -> None:
    at = BEGINNING.index(b"tkhd") + 4 + 40
    quarter = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
    matrix = b"".join(value.to_bytes(4, signed=True) for value in quarter)
    assert measure(BEGINNING[:at] + matrix + BEGINNING[at + 36 :])[:2] == (864, 486)


def test_what_is_cut_or_damaged_gives_less_and_never_a_traceback() -> None:
    rng = random.Random(7)
    for _ in range(400):
        damaged = bytearray(BEGINNING[: rng.randrange(2_000)])
        for _ in range(rng.randrange(4)):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        measure(bytes(damaged))
    nested = b"".join((16_000 - 8 * n).to_bytes(4) + b"moov" for n in range(1_900))
    assert measure(nested) == measure(b"") == measure(b"\x00" * 64) == Measure()
    assert measure(BEGINNING[: BEGINNING.index(b"tkhd")]) == Measure(None, None, 3_000)
