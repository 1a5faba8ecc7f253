import json
from collections import Counter

import msgspec

from tests.fake_pinterest.feeds import search_feed
from tests.fake_pinterest.origins import REAL, Origins
from tests.fake_pinterest.pins import detailed_pin, search_pin, stub
from tests.fake_pinterest.signatures import clip_of

FEED = search_feed("glaze pins:400")
OWN = Origins(*["http://127.0.0.1:8800"] * 4)


def test_a_pin_has_about_52_fields_some_of_them_null_or_missing() -> None:
    pins = [search_pin(pin, "glaze", REAL) for pin in FEED.catalogue()]
    assert all(45 < len(pin) < 62 for pin in pins)
    for key in ("pinner", "board", "description", "created_at", "reaction_counts"):
        assert any(pin.get(key, "missing") is None for pin in pins), key
        assert any(key not in pin for pin in pins), key


def test_the_media_are_never_left_out() -> None:
    for pin in FEED.catalogue():
        shown = search_pin(pin, "glaze", REAL)
        text = json.dumps(shown)
        assert shown["type"] == "pin"
        assert shown["id"] == pin.id
        for video in pin.videos:
            assert video in text


def test_the_flag_does_not_tell_whether_there_is_a_video() -> None:
    flags = Counter(
        (bool(pin.videos), search_pin(pin, "glaze", REAL).get("is_video")) for pin in FEED.catalogue() if not pin.embed
    )
    assert flags[True, False] and flags[False, True]


def test_a_stub_has_a_picture_and_nothing_that_plays() -> None:
    for pin in FEED.catalogue():
        text = msgspec.json.encode(stub(pin, "glaze", REAL)).decode()
        assert "/videos/" not in text
        assert '"videos"' not in text
        assert not any(video in text for video in pin.videos)


def test_the_richer_answer_tells_files_that_the_search_does_not() -> None:
    told = [pin for pin in FEED.catalogue() if pin.video and clip_of(pin.video).told]
    assert told
    for pin in told:
        assert ".mp4" not in json.dumps(search_pin(pin, "glaze", REAL)["videos"])
        assert ".mp4" in json.dumps(detailed_pin(pin, "glaze", REAL)["videos"])


def test_the_legacy_family_repeats_the_size_of_its_source() -> None:
    for pin in FEED.catalogue():
        if pin.video and clip_of(pin.video).name == "mc-tiers":
            variants = search_pin(pin, "glaze", REAL)["videos"]["video_list"].values()
            assert {(variant["width"], variant["height"]) for variant in variants} == {(1080, 1920)}
            return
    raise AssertionError("no such pin")


def test_addresses_are_of_the_origin_that_is_asked() -> None:
    for pin in FEED.catalogue():
        assert "pinimg.com" not in json.dumps(search_pin(pin, "glaze", OWN))
