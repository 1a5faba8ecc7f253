from __future__ import annotations

from typing import Any

from libs.common.messages import Filters, Orientation, Pin, RawMedia, Variant
from services.crawler.known import passed_over, to_measure

MC = "https://v1.pinimg.com/videos/mc/hls/a3/ca/57/a3ca576ed936dbb3843c6e24c8ca830b.m3u8"
IHT = "https://v1.pinimg.com/videos/iht/hls/73/7c/64/737c64f1ec9401ae9d71c55877e9a129.m3u8"
HIGH = Filters(min_height=720)


def raw(*variants: Variant, **more: Any) -> RawMedia:
    pin = more.pop("pin", Pin(id="1"))
    return RawMedia(session="s", item="1-0", signature="ab", pin=pin, variants=list(variants), **more)


def variant(url: str, width: int, height: int, key: str = "V_HLSV4") -> Variant:
    return Variant(key=key, url=url, width=width, height=height)


def test_a_source_or_a_ladder_that_is_too_low_settles_the_height() -> None:
    assert passed_over(HIGH, raw(variant(MC, 360, 640, "V_HLSV3_MOBILE"))) == "min_height"
    assert passed_over(HIGH, raw(variant(IHT, 360, 640))) == "min_height"


def test_a_height_that_a_file_may_reach_or_that_is_of_one_rendition_only_is_left_open() -> None:
    assert passed_over(HIGH, raw(variant(MC, 1080, 1920))) is None
    assert passed_over(HIGH, raw(variant(IHT, 720, 1280))) is None
    assert passed_over(HIGH, raw(variant(IHT, 360, 640, "V_HLSV3_MOBILE"))) is None


def test_the_sources_shape_settles_the_orientation_unless_renditions_disagree() -> None:
    wide = Filters(orientation=Orientation.LANDSCAPE)
    assert passed_over(wide, raw(variant(MC, 1080, 1920))) == "orientation"
    assert passed_over(wide, raw(variant(MC, 1920, 1080))) is None
    assert passed_over(wide, raw(variant(IHT, 720, 1280), variant(IHT + "?2", 1280, 720))) is None


def test_durations_are_milliseconds_at_the_site_and_seconds_in_a_filter() -> None:
    short = Filters(max_duration_s=7.5)
    assert passed_over(short, raw(variant(MC, 1, 2), duration_ms=7_500)) is None
    assert passed_over(short, raw(variant(MC, 1, 2), duration_ms=7_501)) == "max_duration_s"
    assert passed_over(short, raw(variant(MC, 1, 2))) is None


def test_of_an_embed_nobody_finds_out_size_and_duration() -> None:
    embed = raw(embed_url="https://www.youtube.com/embed/x")
    assert passed_over(HIGH, embed) == "min_height"
    assert passed_over(Filters(min_duration_s=0), embed) == "min_duration_s"
    assert passed_over(Filters(exclude_promoted=True), embed) is None


def test_what_a_pin_says_or_leaves_out_is_settled_at_once() -> None:
    after, plain = Filters(created_after="2026-01-31T00:00:00+00:00"), variant(MC, 1080, 1920)
    assert passed_over(after, raw(plain)) == "created_after"
    assert passed_over(after, raw(plain, pin=Pin(id="1", created_at="2026-02-01T00:00:00Z"))) is None
    assert passed_over(Filters(exclude_promoted=True), raw(plain, pin=Pin())) == "exclude_promoted"
    assert passed_over(Filters(with_captions=True), raw(plain)) == "with_captions"


def test_a_file_is_measured_only_for_filters_of_size_and_duration() -> None:
    assert to_measure(HIGH)
    assert to_measure(Filters(max_duration_s=1, with_captions=True))
    assert not to_measure(Filters(with_captions=True, exclude_promoted=True, created_after="2026-01-31"))
