"""Answers in the shapes that were recorded of the site, whole and spoilt: every video comes out, and nothing else."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.messages import RawMedia, encode
from services.crawler.envelope import Envelope, embedded, read_envelope
from services.crawler.extract import extract
from services.crawler.pinterest import Answer, envelope_in

SITE = "https://www.pinterest.com"
ANSWERS = {
    path.stem: json.loads(path.read_text("utf-8")) for path in (Path(__file__).parent / "answers").glob("*.json")
}


def envelope_of(sample: dict[str, Any]) -> Envelope:
    document = sample["document"]
    if sample["form"] == "answer":
        return read_envelope(document)
    written = json.dumps(document)
    if sample["form"] == "props":
        return Envelope(
            results=embedded(f'<script id="__PWS_INITIAL_PROPS__" type="application/json">{written}</script>')
        )
    return Envelope(results=embedded(f'<script>__PWS_RELAY_REGISTER_COMPLETED_REQUEST__("{{}}", {written});</script>'))


def told(media: RawMedia) -> dict[str, Any]:
    """What a sample says of a video."""
    return {
        "item": media.item,
        "signature": media.signature,
        "embed_url": media.embed_url,
        "keys": [variant.key for variant in media.variants],
        "width": media.width,
        "height": media.height,
        "duration_ms": media.duration_ms,
        "poster_url": media.poster_url,
        "captions": media.captions,
        "title": media.pin.title,
        "creator": media.pin.creator and media.pin.creator.username,
        "promoted": media.pin.promoted,
    }


def expected(said: dict[str, Any], found: RawMedia) -> dict[str, Any]:
    """What the sample says, with what is usual where it says nothing; an embed's signature is made, not given."""
    pin = said["item"].partition("-")[0]
    usual: dict[str, Any] = {
        "embed_url": None,
        "width": None,
        "height": None,
        "duration_ms": None,
        "captions": {},
        "promoted": False,
    }
    return {**usual, "signature": found.signature, "title": f"Pin {pin}", "creator": "mia", **said}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_video_of_an_answer_comes_out_and_nothing_else(name: str) -> None:
    sample = ANSWERS[name]
    envelope = envelope_of(sample)
    found = extract(envelope.results, session="s", site=SITE)
    assert [media.item for media in found.media] == [said["item"] for said in sample["media"]]
    for media, said in zip(found.media, sample["media"], strict=True):
        assert told(media) == expected(said, media)
        assert media.embed_url or all(media.signature in variant.url for variant in media.variants)
    assert (found.pins, envelope.bookmark, found.bare) == (sample["pins"], sample["bookmark"], sample["bare"])
    assert [*envelope.unknown, *found.unknown] == sample["unknown"]


def nested(depth: int) -> Any:
    value: Any = {"url": "https://v1.pinimg.com/videos/mc/720p/x.mp4"}
    for _ in range(depth):
        value = {"video": [value]}
    return value


HALF = "\ud83d"  # of an emoji
ODD: list[Any] = [
    *(
        None,
        True,
        0,
        -1,
        10**30,
        1.5,
        float("nan"),
        float("inf"),
        "",
        " ",
        "0",
        HALF,
        f"https://v1.pinimg.com/{HALF}.mp4",
    ),
    *(
        [],
        {},
        [[]],
        [None],
        {"": None},
        {HALF: HALF},
        "x" * 100_000,
        "https://[",
        {"url": 3},
        {"type": "pin"},
        nested(60),
    ),
]


def spoil(value: Any, rng: Random) -> None:
    """Changes one thing somewhere in `value`: lost, renamed, wrapped, or of another type."""
    while True:
        places = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not places:
            return
        place = rng.choice(places)
        inner = value[place]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.7:
            value = inner
            continue
        match rng.randrange(4):
            case 0:
                del value[place]
            case 1:
                value[place] = [inner]
            case 2 if isinstance(value, dict):
                value[rng.choice(["id", "type", "url", "video", "videos", HALF, "x" * 999])] = value.pop(place)
            case _:
                value[place] = deepcopy(rng.choice(ODD))
        return


def entries_of(document: Any) -> list[Any]:
    data = document["resource_response"]["data"]
    entries: list[Any] = data["results"] if isinstance(data, dict) else data
    return entries


def as_read(document: Any) -> Envelope:
    return envelope_in(Answer(status=200, content_type="application/json", body=json.dumps(document)))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["search", "search-stories", "board"]), st.integers(0, 2**32), st.integers(1, 5))
def test_an_entry_that_is_spoilt_costs_no_other_entry_its_videos(name: str, seed: int, changes: int) -> None:
    rng, document = Random(seed), deepcopy(ANSWERS[name]["document"])
    entries = entries_of(document)
    spoilt = rng.choice([entry for entry in entries if entry])
    kept = {said["item"] for said in ANSWERS[name]["media"] if said["item"].partition("-")[0] != spoilt["id"]}
    for _ in range(changes):
        spoil(spoilt, rng)
    found = extract(as_read(document).results, session="s", site=SITE)
    assert kept <= {media.item for media in found.media}
    for media in found.media:
        assert len(encode(media)) < 200_000


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(ANSWERS)), st.integers(0, 2**32), st.integers(1, 20))
def test_no_spoilt_answer_is_stumbled_over(name: str, seed: int, changes: int) -> None:
    rng, sample = Random(seed), deepcopy(ANSWERS[name])
    for _ in range(changes):
        spoil(sample["document"], rng)
    for media in extract(envelope_of(sample).results, session="s", site=SITE).media:
        encode(media)


@pytest.mark.parametrize("cut", ["\\ud83d", "\\ude00", "\t", "NaN"])
def test_what_is_no_strict_json_in_one_title_costs_nothing(cut: str) -> None:
    body = json.dumps(ANSWERS["search"]["document"])
    body = body.replace('"title": ""', f'"title": {cut}' if cut == "NaN" else f'"title": "A jug {cut}"')
    found = extract(envelope_in(Answer(status=200, body=body)).results, session="s", site=SITE)
    assert [media.item for media in found.media] == [said["item"] for said in ANSWERS["search"]["media"]]
    assert {media.pin.title for media in found.media} <= {
        "A jug",
        "Slip and scratch",
        *(f"Pin {n}" for n in range(999)),
    }
    for media in found.media:
        encode(media)
