"""What is said of the shape of answers, by answers as the stand-in gives them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from services.crawler.shape import Judgement, judge
from tests.fake_pinterest.catalogue import read_pin
from tests.fake_pinterest.feeds import MODULE, search_feed
from tests.fake_pinterest.origins import REAL
from tests.fake_pinterest.pins import search_pin, story_module

Json = Any
SITE = "https://www.pinterest.com"
PAGE = 50


def answers(query: str, pages: int = 2) -> list[Json]:
    """The first pages of a search."""
    found = []
    entries = search_feed(query).entries()
    for start in range(0, pages * PAGE, PAGE):
        results: list[Json] = []
        for entry in entries[start : start + PAGE]:
            pin = None if entry == MODULE else read_pin(entry)
            results.append(story_module(1) if pin is None else search_pin(pin, "glaze", REAL))
        response = {"status": "success", "code": 0, "data": {"results": results}, "bookmark": f"cursor {start}"}
        found.append({"resource_response": response, "resource": {"name": "BaseSearchResource", "options": {}}})
    return copy.deepcopy(found)


def pins_of(documents: list[Json]) -> list[Json]:
    results = [entry for document in documents for entry in document["resource_response"]["data"]["results"]]
    return [entry for entry in results if entry["type"] == "pin"]


def judged(change: Callable[[list[Json]], object], query: str = "glaze") -> Judgement:
    documents = answers(query)
    change(documents)
    return judge(documents, SITE)


@pytest.mark.parametrize("seed", range(16))
def test_answers_as_they_always_were_are_well_whatever_a_small_search_lacks_by_chance(seed: int) -> None:
    found = judge(answers(f"glaze seed:{seed}"), SITE)
    assert found.ok, found.line
    assert found.new == []
    assert found.line.startswith("ok: ")
    assert "\n" not in found.line


def test_a_place_of_videos_that_no_pin_has_is_not_seen_and_has_not_vanished() -> None:
    def without(documents: list[Json]) -> None:
        for pin in pins_of(documents):
            pin.pop("carousel_data", None)
            pin["story_pin_data"] = None

    found = judged(without)
    assert found.ok
    assert {"pin.carousel_data", "pin.story_pin_data"} <= set(found.not_seen)
    assert found.line.endswith("pin.carousel_data.carousel_slots[].videos")


@pytest.mark.parametrize("field", ["videos", "images", "pinner", "title", "created_at"])
def test_a_field_of_a_pin_that_is_renamed_has_vanished_and_the_other_is_new(field: str) -> None:
    def rename(documents: list[Json]) -> None:
        for pin in pins_of(documents):
            if field in pin:
                pin[f"new_{field}"] = pin.pop(field)

    found = judged(rename)
    assert found.vanished == [f"pin.{field}"]
    assert found.new == [f"pin.new_{field}"]
    assert found.line.startswith("changed: ")
    assert f"vanished: pin.{field}" in found.line


def test_a_field_that_vanished_on_one_page_of_two_is_told() -> None:
    def rename(documents: list[Json]) -> None:
        for pin in pins_of(documents[1:]):
            pin.pop("videos", None)

    assert judged(rename).vanished == ["pin.videos"]


@pytest.mark.parametrize("field", ["videos", "images"])
def test_a_field_that_a_single_pin_has_still_has_not_vanished(field: str) -> None:
    def thin(documents: list[Json]) -> None:
        for document in documents:
            holders = [pin for pin in pins_of([document]) if pin.get(field)]
            for pin in holders[1:]:
                pin[field] = None

    assert judged(thin).ok


def test_a_pin_whose_videos_are_all_null_tells_as_much_as_one_without_any() -> None:
    def empty(documents: list[Json]) -> None:
        for pin in pins_of(documents):
            pin["videos"] = None

    assert judged(empty).vanished == ["pin.videos"]


@pytest.mark.parametrize(("field", "path"), [("video_list", ""), ("url", ".video_list.*")])
def test_a_field_deep_in_a_video_is_named_with_its_place(field: str, path: str) -> None:
    def rename(documents: list[Json]) -> None:
        for videos in [pin["videos"] for pin in pins_of(documents) if pin.get("videos")]:
            rows = [videos] if not path else list(videos["video_list"].values())
            for row in rows:
                if field in row:
                    row["other"] = row.pop(field)

    found = judged(rename)
    assert f"pin.videos{path}.{field}" in found.vanished
    assert f"pin.videos{path}.other" in found.new


def test_the_envelope_that_changed_is_named_and_its_pins_are_judged_all_the_same() -> None:
    def wrap(documents: list[Json]) -> None:
        for n, document in enumerate(documents):
            results = document["resource_response"]["data"]["results"]
            documents[n] = {"payload": {"items": results, "next": "c"}, "meta": {}}

    found = judged(wrap)
    assert found.vanished == ["resource_response"]
    assert found.new == ["meta", "payload"]
    assert found.pins > PAGE


def test_a_full_first_page_without_a_cursor_says_that_the_cursor_vanished() -> None:
    found = judged(lambda documents: documents[0]["resource_response"].pop("bookmark"))
    assert found.vanished == ["resource_response.bookmark"]
    assert judged(lambda documents: documents[1]["resource_response"].pop("bookmark")).ok


def test_a_new_field_alone_is_told_and_changes_nothing() -> None:
    def add(documents: list[Json]) -> None:
        for pin in pins_of(documents):
            pin["debug_info"] = {"deep": {"deeper": 1}}
            if pin.get("videos"):
                pin["videos"]["video_list"]["V_VP9"] = {"url": "https://v1.pinimg.com/videos/x.mp4", "width": 1}

    found = judged(add)
    assert found.ok
    assert found.new == ["pin.debug_info", "pin.videos.video_list.V_VP9"]
    assert "new: pin.debug_info" in found.line


def test_videos_in_a_place_that_is_not_known_are_a_change_though_nothing_vanished() -> None:
    def move(documents: list[Json]) -> None:
        pin = next(pin for pin in pins_of(documents) if pin.get("videos"))
        pin["motion"], pin["videos"] = pin["videos"], None

    found = judged(move)
    assert not found.ok
    assert found.strange == ["a video in the unknown place motion"]
    assert found.new == ["pin.motion"]


@pytest.mark.parametrize("document", [None, [], "text", 7, {}, {"resource_response": None}, {"resource_response": []}])
def test_anything_at_all_can_be_judged(document: Json) -> None:
    found = judge([document], SITE)
    assert not found.ok
    assert found.pins == 0
