import pytest

from tests.fake_pinterest.options import FAULTS, BadOption, parse_options


def test_words_with_a_key_are_options_and_the_rest_is_the_topic() -> None:
    options = parse_options("ceramic glaze pins:7 fault:e503 at:3 times:always end:none latency:80 gated:always size:9")
    assert options.topic == "ceramic glaze"
    assert (options.pins, options.fault, options.at, options.times) == (7, "e503", "3", None)
    assert (options.end, options.latency_ms, options.gated, options.size) == ("none", 80, "always", 9)


def test_words_that_only_look_like_options_belong_to_the_topic() -> None:
    assert parse_options("16:9 wallpaper: easy").topic == "16:9 wallpaper: easy"


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_can_be_asked_for(fault: str) -> None:
    assert parse_options(f"x fault:{fault}").fault == fault


@pytest.mark.parametrize("word", ["fault:e999", "colour:red", "pins:many", "pins:-1", "at:0", "end:never", "size:251"])
def test_an_unknown_option_is_refused_with_a_sentence(word: str) -> None:
    with pytest.raises(BadOption, match=r"^.+\.$"):
        parse_options(f"glaze {word}")
