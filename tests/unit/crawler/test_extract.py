from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.messages import RawMedia
from services.crawler.envelope import embedded, read_envelope
from services.crawler.extract import Extraction, extract

SITE = "https://www.pinterest.com"
A, B, C = "a3ca576ed936dbb3843c6e24c8ca830b", "737c64f1ec9401ae9d71c55877e9a129", "0" * 31 + "c"


def media_url(path: str, signature: str, ending: str) -> str:
    return f"https://v1.pinimg.com/videos/{path}/{signature[:2]}/{signature[2:4]}/{signature[4:6]}/{signature}{ending}"


def videos(signature: str, **more: Any) -> dict[str, Any]:
    hls = {"url": media_url("iht/hls", signature, ".m3u8"), "width": 720, "height": 1280, "duration": 14000, **more}
    return {"video_list": {"V_HLSV4": hls}}


def pin(**fields: Any) -> dict[str, Any]:
    return {"id": "1234", "type": "pin", "images": {}, "videos": None, **fields}


def run(*results: Any) -> Extraction:
    return extract(list(results), session="s", site=SITE)


def only(*results: Any) -> RawMedia:
    [media] = run(*results).media
    return media


def test_a_video_is_named_by_its_pin_and_its_place_and_signed_by_its_path() -> None:
    media = only(pin(videos=videos(A)))
    assert (media.session, media.item, media.signature) == ("s", "1234-0", A)
    assert [variant.key for variant in media.variants] == ["V_HLSV4"]
    assert (media.width, media.height, media.duration_ms) == (720, 1280, 14000)


def test_all_four_places_are_read_in_order() -> None:
    story = {"pages": [{"blocks": [{"type": None, "video": videos(B)}, {"type": "x"}], "video": videos(C)}]}
    carousel = {"carousel_slots": [{"videos": None}, {"videos": videos("d" * 32)}]}
    embed = {"src": "https://www.youtube.com/embed/dQw4w9WgXcQ"}
    found = run(pin(videos=videos(A), story_pin_data=story, carousel_data=carousel, embed=embed)).media
    assert [media.item for media in found] == [f"1234-{n}" for n in range(5)]
    assert [media.signature for media in found[:4]] == [A, B, C, "d" * 32]
    assert found[4].embed_url == embed["src"]
    assert not found[4].variants


def test_the_same_video_in_two_places_of_a_pin_is_one_item_with_all_its_variants() -> None:
    mp4 = {"video_list": {"V_720P": {"url": media_url("iht/expMp4", A, "_720w.mp4")}}}
    media = only(pin(videos=videos(A), story_pin_data={"pages": [{"blocks": [{"video": mp4}]}]}))
    assert [variant.key for variant in media.variants] == ["V_HLSV4", "V_720P"]


def test_a_video_in_an_unknown_place_is_found_beside_one_in_a_known_place() -> None:
    found = run(pin(videos=videos(A), clips={"more": [{"inner": videos(B)}]}, loose=media_url("iht/hls", C, ".m3u8")))
    assert [media.signature for media in found.media] == [A, B, C]
    assert len(found.unknown) == 2


def test_the_newer_shape_gives_the_same_item() -> None:
    older = only(pin(videos=videos(A)))
    newer = only(
        {
            "__typename": "Pin",
            "entityId": "1234",
            "id": "UGluOjEyMzQ=",
            "gridTitle": "A jug",
            "videos": {
                "videoList": {"vHLSV4": videos(A)["video_list"]["V_HLSV4"], "v720P": None},
                "videoUrls": [media_url("iht/expMp4", A, "_720w.mp4"), media_url("iht/hls", A, ".m3u8")],
            },
        }
    )
    assert (newer.item, newer.signature) == (older.item, older.signature)
    assert [variant.key for variant in newer.variants] == ["V_HLSV4", "URL_0"]
    assert newer.pin.title == "A jug"


@pytest.mark.parametrize(
    "video_list",
    [
        {"V_720P": {"width": 720}},
        {"V_720P": None, "V_HLSV4": {"url": None}},
        {"V_720P": {"url": "https://i.pinimg.com/videos/thumbnails/originals/a3/ca/57/" + A + ".0000000.jpg"}},
        {"V_720P": {"url": "https://v1.pinimg.com/videos/captions/en-us/a3/ca/57/" + A + ".vtt"}},
        {"V_720P": {"url": "javascript:alert(1).mp4"}},
        {"V_720P": {"url": "https://[/x.mp4"}},
        "x",
    ],
)
def test_videos_without_an_address_are_nothing_but_are_told_of(video_list: Any) -> None:
    extraction = run(pin(videos={"video_list": video_list}))
    assert extraction.media == []
    assert extraction.unknown


@pytest.mark.parametrize("videos", [None, {}, {"video_list": None}, {"video_list": {}}, {"video_list": []}])
def test_a_picture_whose_videos_are_empty_is_nothing_strange(videos: Any) -> None:
    extraction = run(pin(videos=videos))
    assert (extraction.media, extraction.unknown, extraction.bare) == ([], [], [])


def test_images_avatars_covers_and_gifs_are_no_media() -> None:
    picture = {"url": f"https://i.pinimg.com/originals/a3/ca/57/{A}.jpg"}
    plain = pin(
        images={"orig": picture},
        embed={"type": "gif", "src": f"https://i.pinimg.com/originals/a3/ca/57/{A}.gif"},
        pinner={"image_small_url": picture["url"], "cover_video": {"video_list": videos(A)["video_list"]}},
        board={"cover": media_url("mc/720p", A, ".mp4")},
        is_video=True,
    )
    assert run(plain).media == []


def test_is_video_is_not_trusted() -> None:
    assert run(pin(videos=videos(A), is_video=False)).media
    assert not run(pin(is_video=True)).media


@pytest.mark.parametrize(
    "source",
    [
        "https://www.youtube.com/embed/dQw4w9WgXcQ?rel=0",
        "https://www.youtube.com/watch?app=desktop&v=dQw4w9WgXcQ",
        "//youtu.be/dQw4w9WgXcQ?t=1",
        "https://www.youtube-nocookie.com/embed/dQw4w9WgXcQ",
    ],
)
def test_one_embedded_video_has_one_signature(source: str) -> None:
    plain = only(pin(embed={"src": "https://www.youtube.com/watch?v=dQw4w9WgXcQ"}))
    assert only(pin(embed={"src": source})).signature == plain.signature


def test_embeds_of_other_hosts_are_none() -> None:
    for source in ("https://example.com/embed/1", "https://notyoutube.com/watch?v=abcdef", "", None, 3):
        assert run(pin(embed={"src": source})).media == []


def test_a_path_without_a_signature_is_signed_without_its_query() -> None:
    first, second = (
        only(pin(videos={"video_list": {"V_720P": {"url": f"https://v1.pinimg.com/a/clip.mp4?token={n}"}}}))
        for n in range(2)
    )
    assert first.signature == second.signature
    assert len(first.signature) == 32


def test_only_pins_are_read_and_nothing_else_is_in_the_way() -> None:
    story = {"type": "story", "id": "1", "objects": [pin(videos=videos(B))]}
    untyped = {"id": "77", "images": {}, "videos": videos(C)}
    found = run(None, story, 3, "x", [], {}, pin(videos=videos(A)), untyped).media
    assert [media.item for media in found] == ["1234-0", "77-0"]


def test_stubs_are_counted_apart_from_pins_without_videos() -> None:
    stub = {"id": "5", "type": "pin", "images": {}}
    assert run(stub).stubs == ["5"]
    assert run(stub).gated
    assert not run(stub, pin()).gated
    assert not run().gated


def test_a_renamed_field_hides_no_video_and_is_told_of() -> None:
    renamed: dict[str, Any] = {
        "id": "1234",
        "type": "pin",
        "media_videos": videos(A),
        "clips": [media_url("mc/720p", B, ".mp4")],
    }
    extraction = run(renamed)
    assert [media.signature for media in extraction.media] == [A, B]
    assert "unknown place media_videos" in extraction.unknown[0]
    assert only({**renamed, "media_videos": None, "clips": {"list": {"V_EXP7": {"src": renamed["clips"][0]}}}})


def test_metadata_is_made_plain() -> None:
    media = only(
        pin(
            title=" ",
            grid_title="A jug ",
            description=" ",
            created_at="Tue, 04 Aug 2026 10:00:00 +0200",
            dominant_color="#C8553D",
            link="https://example.com/notes",
            pinner={"username": "mia", "full_name": "Mia"},
            board={"name": "Slow", "url": "/mia/slow/"},
            reaction_counts={"1": 3, "5": 2, "7": None},
            campaign_id="12",
            images={"736x": {"url": "https://i.pinimg.com/736x/x.jpg"}},
            videos=videos(A, captions_urls={"en-us": "https://v1.pinimg.com/c.vtt", "de": None}),
        )
    )
    words = media.pin
    assert words.url == f"{SITE}/pin/1234/"
    assert (words.title, words.description) == ("A jug", None)
    assert words.created_at == "2026-08-04T08:00:00Z"
    assert words.creator and words.creator.url == f"{SITE}/mia/"
    assert words.board and words.board.url == f"{SITE}/mia/slow/"
    assert (words.dominant_color, words.reactions, words.promoted) == ("#c8553d", 5, True)
    assert media.captions == {"en-us": "https://v1.pinimg.com/c.vtt"}
    assert media.poster_url == "https://i.pinimg.com/736x/x.jpg"


def test_a_changed_envelope_is_read_by_its_shape_and_told_of() -> None:
    envelope = read_envelope({"payload": {"items": [pin(videos=videos(A))], "next": "c2"}, "meta": {"code": 0}})
    assert run(*envelope.results).media
    assert envelope.bookmark == "c2"
    assert envelope.unknown
    assert read_envelope({"payload": {"items": [pin()]}}).lost


def test_an_envelope_without_pins_that_is_not_known_is_not_understood() -> None:
    documents: list[Any] = [
        None,
        [],
        "x",
        {},
        {"resource_response": None},
        {"resource_response": {"data": {"rows": []}}},
    ]
    for document in documents:
        assert not read_envelope(document).understood


def test_a_page_gives_its_pins_in_both_shapes() -> None:
    props = msgspec.json.encode({"initialReduxState": {"pins": {"1234": pin(videos=videos(A))}}}).decode()
    relay = msgspec.json.encode({"data": {"v3GetPinQueryv2": {"data": {"entityId": "9", "gridTitle": "x"}}}}).decode()
    html = (
        f'<script id="__PWS_INITIAL_PROPS__" type="application/json">{props}</script>'
        f'<script>window.__PWS_RELAY_REGISTER_COMPLETED_REQUEST__("{{\\"a\\": 1}}", {relay});</script>'
        '<script id="__PWS_DATA__">{broken</script>'
    )
    assert [run(entry).pins for entry in embedded(html)] == [1, 1]


# Hypothesis looks for JSON that the extractor stumbles over: any JSON at all, and pins with anything in any field.
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.sampled_from(["https://[x/", "//x.mp4", media_url("iht/hls", A, ".m3u8"), "https://youtu.be/abc", "-end-"]),
)
WORDS = """
id type videos video_list V_720P url story_pin_data pages blocks video carousel_data carousel_slots embed src images
orig title created_at pinner board reaction_counts captions_urls thumbnail duration width data results bookmark error
resource_response resource options bookmarks videoList entityId vHLSV4 videoUrls
"""
KEYS = st.sampled_from(WORDS.split())
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=30
)


@given(JSON)
def test_no_json_is_stumbled_over(document: Any) -> None:
    read_envelope(document)
    run(document)
    run({"id": "1", "type": "pin", "videos": document, "story_pin_data": document, "embed": document})
    extraction = run({"id": "1", "type": "pin", "videos": {"video_list": {"V_720P": document}}, "board": document})
    for media in extraction.media:
        msgspec.json.encode(media)


@given(st.dictionaries(KEYS, JSON, max_size=10))
def test_no_pin_is_stumbled_over_and_what_is_found_is_media(fields: dict[str, Any]) -> None:
    for media in run({**fields, "id": "1", "type": "pin"}).media:
        assert len(media.signature) == 32
        assert media.variants or media.embed_url
        msgspec.json.encode(media)


@given(st.text(max_size=200))
def test_no_html_is_stumbled_over(words: str) -> None:
    embedded(f'<script id="__PWS_INITIAL_PROPS__">{words}</script>__PWS_RELAY_REGISTER_COMPLETED_REQUEST__({words}')


def test_deep_nesting_is_not_followed_for_ever() -> None:
    deep: Any = {"url": "x"}
    for _ in range(500):
        deep = {"video": deep, "list": [deep]} if _ < 3 else {"video": deep}
    run(pin(videos=deep, story_pin_data=deep))
    read_envelope(deep)


def test_a_pin_without_an_id_keeps_its_video() -> None:
    video = {"video_list": {"V_HLSV4": {"url": f"https://v1.pinimg.com/videos/iht/hls/aa/aa/aa/{'a' * 32}.m3u8"}}}
    nameless = {"type": "pin", "id": None, "videos": video, "images": {}}
    in_node_id = {"type": "pin", "id": None, "node_id": "UGluOjEyMw==", "videos": video}
    found = extract([nameless, in_node_id], session="s", site="https://www.pinterest.com").media
    assert [media.item for media in found] == [f"unnamed-{'a' * 32}", "123-0"]


def test_pins_of_which_too_little_is_told_are_named() -> None:
    full = {"type": "pin", "id": "1", "videos": None, "story_pin_data": None}
    stub = {"type": "pin", "id": "2", "images": {}}
    bare = {"type": "pin", "id": "3", "videos": {"video_list": {"V_720P": {"url": None}}}}
    found = extract([full, stub, bare], session="s", site="https://www.pinterest.com")
    assert (found.stubs, found.badged, found.bare, found.gated) == (["2"], [], ["3"], False)


def test_keys_that_no_encoding_has_or_that_are_long_do_not_get_into_a_message() -> None:
    rows = {
        f"{'V' * 999}\ud83d": videos(A, captions_urls={"en\ud83d": "https://v1.pinimg.com/c.vtt"})["video_list"][
            "V_HLSV4"
        ]
    }
    [media] = run(pin(videos={"video_list": rows})).media
    assert len(msgspec.json.encode(media)) < 2000
    [elsewhere] = run(pin(**{"clips\ud83d": {"list\ud83d": media_url("mc/720p", B, ".mp4")}})).media
    msgspec.json.encode(elsewhere)
