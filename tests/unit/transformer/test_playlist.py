from services.transformer.playlist import read_ladder

URL = "https://v1.pinimg.com/videos/iht/hls/73/7c/64/737c64f1ec9401ae9d71c55877e9a129.m3u8"
SIG = "737c64f1ec9401ae9d71c55877e9a129"
MASTER = f"""#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio1",NAME="1",AUTOSELECT=YES,URI="{SIG}_audio.m3u8",CHANNELS="2"
#EXT-X-STREAM-INF:BANDWIDTH=257832,CODECS="avc1.64080D,mp4a.40.29",RESOLUTION=234x416,AUDIO="audio1"
{SIG}_240w.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1000000,CODECS="avc1.64081F,mp4a.40.29",RESOLUTION=720x1280,AUDIO="audio1"
{SIG}_720w.m3u8
"""


def test_rungs_are_largest_first_with_their_sizes() -> None:
    ladder = read_ladder(MASTER, URL)
    assert ladder is not None
    assert [(rung.label, rung.width, rung.height) for rung in ladder.rungs] == [(720, 720, 1280), (240, 234, 416)]
    assert ladder.rungs[0].url == URL.replace(".m3u8", "_720w.m3u8")
    assert (ladder.codec, ladder.size) == ("h264", (720, 1280))


def test_the_codec_is_the_playlists_own_word() -> None:
    ladder = read_ladder(MASTER.replace("avc1.64080D", "hvc1.1.6").replace("avc1.64081F", "hvc1.1.6"), URL)
    assert ladder is not None
    assert ladder.codec == "hevc"


def test_a_tag_that_cannot_be_read_still_leaves_the_names() -> None:
    ladder = read_ladder(MASTER.replace("BANDWIDTH=257832", "BANDWIDTH=much"), URL)
    assert ladder is not None
    assert [rung.label for rung in ladder.rungs] == [720, 240]


def test_rungs_without_resolution_are_ordered_by_name() -> None:
    ladder = read_ladder(MASTER.replace(",RESOLUTION=234x416", "").replace(",RESOLUTION=720x1280", ""), URL)
    assert ladder is not None
    assert [rung.label for rung in ladder.rungs] == [720, 240]


def test_a_page_is_no_playlist_and_a_byte_order_mark_does_no_harm() -> None:
    assert read_ladder("<html>#EXTM3U</html>", URL) is None
    assert read_ladder("", URL) is None
    assert read_ladder("\ufeff" + MASTER, URL) is not None
