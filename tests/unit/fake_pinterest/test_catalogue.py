import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.fake_pinterest import board_feed, expected_of, expected_results, related_feed, section_feed, user_feed
from tests.fake_pinterest.catalogue import SHAPES, read_pin
from tests.fake_pinterest.clips import BEST_KEYS, CLIPS
from tests.fake_pinterest.feeds import SECTIONS, feed_of_board, search_feed
from tests.fake_pinterest.pin_ids import PinId, decode_pin_id, encode_pin_id
from tests.fake_pinterest.signatures import MOODS, clip_of, make_signature, read_signature

ROOT = Path(__file__).parents[3]


def test_a_query_has_one_answer_in_every_process() -> None:
    script = "from tests.fake_pinterest import expected_results as e; print(e('glaze pins:40').videos[7].items[0])"
    answers = {
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert answers == {expected_results("glaze pins:40").videos[7].items[0] + "\n"}


def test_queries_differ_by_topic_and_by_seed() -> None:
    queries = ("glaze", "kiln", "glaze seed:2", "glaze pins:121")
    ids = [video.id for query in queries for video in expected_results(query).videos]
    assert len(set(ids)) == len(ids)


def test_faults_do_not_change_what_there_is() -> None:
    plain, faulty = expected_results("glaze"), expected_results("glaze fault:e503 at:last latency:3 size:7 end:none")
    assert plain == faulty


def test_a_thousand_pins_hold_476_unique_videos() -> None:
    expected = expected_results("glaze pins:1000")
    assert (expected.pins, expected.unique) == (1000, 476)
    assert expected.items == expected.unique + expected.repeats
    kinds = Counter(video.kind for video in expected.videos)
    assert kinds["embed"] == 20
    assert kinds["mp4"] > 6 * kinds["hls"] > 0


def test_a_search_for_pins_holds_few_videos() -> None:
    assert expected_results("glaze pins:1000", scope="pins").items in range(35, 60)
    assert expected_results("glaze pins:1000 scope:videos", scope="pins").unique == 476


def test_every_shape_and_every_clip_turns_up() -> None:
    pins = list(search_feed("glaze pins:1000").catalogue())
    assert {pin.shape for pin in pins} == {"single", *SHAPES}
    signatures = [video for pin in pins for video in pin.videos if not video.startswith("https:")]
    assert {clip_of(signature).name for signature in signatures} == {clip.name for clip in CLIPS}


def test_four_videos_in_five_have_no_file_in_the_search() -> None:
    videos = [video for video in expected_results("glaze pins:1000").videos if video.kind != "embed"]
    listed = [video for video in videos if set(BEST_KEYS) & clip_of(video.id).listed.keys()]
    assert 0.13 < len(listed) / len(videos) < 0.25


def test_a_repin_has_another_id_and_the_same_signature() -> None:
    repeated = [video for video in expected_results("glaze").videos if len(video.items) > 1]
    assert repeated
    assert all(len(set(video.pins)) > 1 for video in repeated)


def test_a_moving_picture_is_no_video() -> None:
    gifs = [pin for pin in search_feed("glaze pins:400").catalogue() if pin.gif]
    assert gifs
    assert not any(pin.videos for pin in gifs)


def test_items_count_the_videos_of_a_pin_in_reading_order() -> None:
    pin = next(pin for pin in search_feed("glaze pins:400").catalogue() if pin.shape == "video-and-story")
    assert pin.videos == (pin.video, pin.story[0].blocks[0].signature)
    carried = expected_results("glaze pins:400").by_id()
    assert f"{pin.id}-1" in carried[pin.videos[1]].items


@pytest.mark.parametrize("pins", [0, 1, 2, 3, 25, 5000])
def test_a_feed_has_as_many_pins_as_asked_for(pins: int) -> None:
    found = [pin.id for pin in search_feed(f"glaze pins:{pins}").catalogue()]
    assert len(set(found)) == len(found) == pins


def test_pin_ids_tell_everything_and_made_up_ones_nothing() -> None:
    ids = PinId(tag=0xABCDEF, mood=2, ordinal=4_711, root=12, code=40)
    assert decode_pin_id(encode_pin_id(ids)) == ids
    for text in ("", "abc", "1", "9" * 19, "9" * 40, "-1", "²"):
        assert read_pin(text) is None


def test_signatures_tell_clip_and_mood_and_made_up_ones_nothing() -> None:
    for code, clip in enumerate(CLIPS):
        for mood, name in enumerate(MOODS):
            assert read_signature(make_signature("x", code, mood)) == (clip, name)
    signature = make_signature("x", 3, 0)
    for wrong in ("", "a" * 32, signature[:-1], signature.upper(), signature[:-1] + "0g"):
        assert wrong == signature or read_signature(wrong) is None


def test_a_board_is_its_sections_and_its_loose_pins() -> None:
    board = board_feed("mia", "glazes--pins-50")
    assert board is not None
    parts = [section_feed("mia", "glazes--pins-50", name) for name in SECTIONS]
    in_sections = [pin.id for part in parts if part for pin in part.catalogue()]
    assert len(in_sections) == 20
    assert set(in_sections) < {pin.id for pin in board.catalogue()}


def test_a_board_is_found_again_by_its_id() -> None:
    for feed in (board_feed("mia", "glazes"), section_feed("mia", "glazes", SECTIONS[1])):
        assert feed
        again = feed_of_board(feed.board_id)
        assert again
        assert again.entries() == feed.entries()
    assert feed_of_board("17") is None


def test_other_feeds_have_right_answers_too() -> None:
    pin = expected_results("glaze").videos[0].pins[0]
    for feed in (user_feed("mia", "saved"), user_feed("mia", "created"), related_feed(pin)):
        assert feed
        assert expected_of(feed).unique > 10
    assert board_feed("nobody", "x") is None
    assert board_feed("mia", "gone") is None
    assert user_feed("search", "saved") is None
    assert related_feed("17") is None
