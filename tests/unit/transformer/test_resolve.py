from libs.common.messages import Variant
from services.transformer.address import place
from services.transformer.playlist import Ladder, Rung
from services.transformer.resolve import (
    current,
    current_hevc,
    current_places,
    legacy,
    listed,
    listed_in_other_codecs,
    named_widths,
    of_video,
    older,
    streams,
)

CDN = "https://v1.pinimg.com/videos"
MC, IHT = "a3ca576ed936dbb3843c6e24c8ca830b", "737c64f1ec9401ae9d71c55877e9a129"
MC_HLS = f"{CDN}/mc/hls/a3/ca/57/{MC}"
IHT_HLS = f"{CDN}/iht/hls/73/7c/64/{IHT}"


def variants(**urls: str) -> list[Variant]:
    return [Variant(key=key, url=url) for key, url in urls.items()]


def iht(folder: str, tail: str) -> str:
    return f"{CDN}/iht/{folder}/73/7c/64/{IHT}{tail}"


def mc(folder: str, tail: str) -> str:
    return f"{CDN}/mc/{folder}/a3/ca/57/{MC}{tail}"


def test_listed_files_come_in_the_order_of_their_keys() -> None:
    given = variants(
        V_EXP3=mc("expMp4", "_t1.mp4"),
        V_HLSV4=f"{MC_HLS}.m3u8",
        V_EXP6=mc("expMp4", "_t4.mp4"),
        V_EXP7=mc("720p", ".mp4"),
        V_EXP5=mc("expMp4", "_t3.mp4"),
        V_720P=mc("720p", "_x.mp4"),
        V_EXP4=mc("expMp4", "_t2.mp4"),
    )
    keys = ["_x.mp4", ".mp4", "_t4.mp4", "_t3.mp4", "_t2.mp4", "_t1.mp4"]
    assert [item.url.split(MC)[1] for item in listed(given)] == keys


def test_other_listed_files_come_larger_first_whatever_they_are_called() -> None:
    given = [
        Variant(key="V_240P", url=iht("expMp4", "_240w.mp4"), width=240, height=426),
        Variant(key="V_NEW", url=iht("expMp4", "_540w.mp4"), width=540, height=960),
        Variant(key="v720P", url=iht("expMp4", "_720w.mp4")),
    ]
    assert [item.url.rsplit("_", 1)[1] for item in listed(given)] == ["720w.mp4", "540w.mp4", "240w.mp4"]


def test_other_codecs_are_never_among_the_plain_files() -> None:
    given = variants(
        V_HEVC_MP4_T1_V2=iht("hevcMp4V3", "_720w.mp4"),
        V_720P=iht("h265-pt-mp4", "_720w_t1.mp4"),
        V_EXP1=iht("av1Mp4-enabled-v2", "_720w.mp4"),
    )
    assert listed(given) == []
    assert [item.codec for item in listed_in_other_codecs(given)] == ["hevc", "hevc", "av1"]


def test_the_legacy_master_gives_the_720p_file_and_then_the_tiers() -> None:
    tails = ["_t4.mp4", "_t3.mp4", "_t2.mp4", "_t1.mp4"]
    expected = [mc("720p", ".mp4"), *(mc("expMp4", tail) for tail in tails)]
    for tail in (".m3u8", "_240w.m3u8", "_480w.cmfv", "_audio.m3u8"):
        assert [item.url for item in legacy(variants(V_HLSV4=MC_HLS + tail))] == expected


def test_a_legacy_files_size_is_given_only_where_it_can_be_right() -> None:
    def size(width: int, height: int) -> tuple[int | None, int | None]:
        first = legacy([Variant(key="V_HLSV4", url=f"{MC_HLS}.m3u8", width=width, height=height)])[0]
        return first.width, first.height

    assert size(540, 960) == (540, 960)
    assert size(1080, 1920) == (None, None)


def test_the_current_family_is_never_guessed_in_the_legacy_folder() -> None:
    given = variants(V_HLSV4=f"{IHT_HLS}.m3u8")
    assert legacy(given) == []
    assert [spot.master for spot in current_places(given)] == [f"{IHT_HLS}.m3u8"]


def test_each_rung_gives_a_file_largest_first_and_then_the_usual_widths() -> None:
    spot = place(f"{IHT_HLS}_240w.m3u8")
    assert spot is not None
    rungs = [Rung(f"{IHT_HLS}_486w.m3u8", 486, 864), Rung(f"{IHT_HLS}_240w.m3u8", 234, 416)]
    found = current(spot, Ladder(spot.master, "h264", rungs))
    assert [item.url.rsplit("_", 1)[1] for item in found] == [
        "486w.mp4", "240w.mp4", "720w.mp4", "540w.mp4", "480w.mp4", "360w.mp4",
    ]  # fmt: skip
    assert found[0].url == iht("expMp4", "_486w.mp4")
    assert [(item.width, item.height) for item in found[:3]] == [(486, 864), (234, 416), (None, None)]


def test_without_a_ladder_the_usual_widths_are_all_there_is() -> None:
    spot = place(f"{IHT_HLS}_480w.cmfv")
    assert spot is not None
    assert [item.url for item in current(spot, None)] == [
        iht("expMp4", f"_{width}w.mp4") for width in (720, 540, 480, 360, 240)
    ]
    assert {item.codec for item in current_hevc(spot, None)} == {"hevc"}
    assert [item.url for item in older(spot, None)] == [iht("720p", ".mp4"), iht("720p", "_720w.mp4")]


def test_streams_are_whole_playlists_first_and_h264_before_hevc_and_never_sound_alone() -> None:
    given = variants(
        V_HLS_HEVC=iht("h265", ".m3u8"),
        V_AUDIO=f"{IHT_HLS}_audio.m3u8",
        V_HLSV3_MOBILE=f"{IHT_HLS}_240w.m3u8",
        V_DASH_HEVC=iht("h265-pt", ".mpd"),
    )
    assert [item.url for item in streams(given)] == [
        f"{IHT_HLS}.m3u8",
        f"{IHT_HLS}_240w.m3u8",
        iht("h265", ".m3u8"),
    ]


def test_variants_of_another_video_are_left_out() -> None:
    given = variants(V_HLSV4=f"{IHT_HLS}.m3u8", V_720P=mc("720p", ".mp4"), V_NEW="https://v1.pinimg.com/plain.mp4")
    assert [item.key for item in of_video(given, IHT)] == ["V_HLSV4", "V_NEW"]
    assert of_video(given, "e" * 32) == given


def test_widths_that_listed_addresses_name_are_guessed_too() -> None:
    base = "https://v1.pinimg.com/videos/iht/hls/aa/aa/aa/" + "a" * 32
    widths = named_widths([Variant(key="A", url=f"{base}_486w.m3u8"), Variant(key="B", url=f"{base}.m3u8")])
    assert widths == [486]
    spot = place(f"{base}.m3u8")
    assert spot is not None
    assert any(item.url.endswith("_486w.mp4") for item in current(spot, None, widths))
