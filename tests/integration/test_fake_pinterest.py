"""The stand-in, asked over real HTTP by nothing but an HTTP client."""

import json
import os
import re
import ssl
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.fake_pinterest import RunningSite, expected_results, running_site, search_feed

ENDS = ("-end-", None)
HANDLER = {"X-Pinterest-PWS-Handler": "www/search/[scope].js"}
# A feed of five full pages: no modules, no empty page.
EVEN = next(query for query in (f"even seed:{n}" for n in range(99)) if search_feed(query).tag % 2)
PEERS = os.environ.get("PEERS_VENV")


@pytest.fixture(scope="module")
def site() -> Iterator[RunningSite]:
    with running_site(tls=True) as site:
        yield site


@pytest.fixture
def client(site: RunningSite) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=site.origin, timeout=10) as client:
        yield client


def ask(client: httpx2.Client, name: str, **options: Any) -> httpx2.Response:
    data = json.dumps({"options": options, "context": {}})
    return client.get(f"/resource/{name}/get/", params={"source_url": "/", "data": data}, headers=HANDLER)


def search(client: httpx2.Client, query: str, **options: Any) -> httpx2.Response:
    return ask(client, "BaseSearchResource", query=query, scope="videos", **options)


def crawl(client: httpx2.Client, query: str, page_size: int = 25) -> list[dict[str, Any]]:
    pins: list[dict[str, Any]] = []
    options: dict[str, Any] = {"gated": False, "page_size": page_size}
    while True:
        answer = search(client, query, **options).json()
        response = answer["resource_response"]
        pins += [result for result in response["data"]["results"] if result and result["type"] == "pin"]
        cursor = response.get("bookmark")
        if cursor in ENDS or cursor.startswith("Y2JOb25lO"):
            return pins
        assert [cursor] == answer["resource"]["options"]["bookmarks"]
        options["bookmarks"] = [cursor]


def videos_in(value: Any) -> Iterator[str]:
    """Signatures and embed addresses, wherever in a pin they are."""
    if isinstance(value, dict):
        if "video_list" in value:
            urls = {variant["url"] for variant in value["video_list"].values() if "url" in variant}
            yield from {url.rpartition("/")[2][:32] for url in urls}
        if value.get("type") == "video" and "src" in value:
            yield value["src"]
        for inner in value.values():
            yield from videos_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from videos_in(inner)


@pytest.mark.parametrize("query", ["glaze", "glaze seed:1", "glaze seed:2 end:none", "glaze pins:1000"])
def test_a_crawl_finds_what_is_expected(client: httpx2.Client, query: str) -> None:
    expected = expected_results(query)
    found = Counter(video for pin in crawl(client, query) for video in videos_in(pin))
    assert found == {video.id: len(video.items) for video in expected.videos}


def test_the_expected_files_are_there_and_the_rest_is_forbidden(client: httpx2.Client) -> None:
    for video in expected_results("glaze").videos:
        if video.path:
            head = client.head(video.path)
            part = client.get(video.path, headers={"Range": "bytes=0-0"})
            assert (head.status_code, part.status_code, len(part.content)) == (200, 206, 1)
            assert part.headers["content-range"] == f"bytes 0-0/{head.headers['content-length']}"
            assert head.headers["access-control-allow-origin"] == "*"
            assert client.head(video.path.replace(".", "_1080w.")).status_code == 403


def test_the_handler_header_is_required(client: httpx2.Client) -> None:
    answer = client.get("/resource/BaseSearchResource/get/", params={"data": '{"options":{"query":"x"}}'})
    assert (answer.status_code, answer.text) == (403, "Invalid Resource Request")


def test_a_page_has_at_most_250_pins(client: httpx2.Client) -> None:
    answer = search(client, "glaze", page_size=251)
    assert answer.status_code == 400
    assert answer.json()["resource_response"]["error"]["message"] == "Page size exceeds maximum value of 250"


def test_a_gated_search_is_answered_with_stubs(client: httpx2.Client) -> None:
    assert '"video_list"' not in search(client, "glaze", gated=True).text
    assert '"video_list"' not in search(client, "glaze gated:always", gated=False).text
    assert '"video_list"' in search(client, "glaze gated:never", gated=True).text


def test_an_unknown_option_is_refused_with_a_sentence(client: httpx2.Client) -> None:
    for answer in (search(client, "glaze fault:earthquake"), client.get("/search/videos/?q=glaze+colour:red")):
        assert answer.status_code == 400
        assert "knows" in answer.text


REFUSALS = [
    ("rate_limited", 429),
    ("rate_limited_bare", 429),
    ("e500", 500),
    ("e502", 502),
    ("e503", 503),
    ("forbidden", 403),
]


@pytest.mark.parametrize(("fault", "status"), REFUSALS)
def test_a_refusal_comes_once_and_then_the_page(client: httpx2.Client, fault: str, status: int) -> None:
    query = f"glaze fault:{fault} at:first"
    refused, given = search(client, query), search(client, query)
    assert (refused.status_code, given.status_code) == (status, 200)
    assert refused.headers.get("retry-after") == ("1" if fault == "rate_limited" else None)


def test_a_fault_may_last_for_ever(client: httpx2.Client) -> None:
    query = "glaze fault:e503 at:first times:always"
    assert {search(client, query).status_code for _ in range(5)} == {503}


@pytest.mark.parametrize(("at", "struck"), [("first", 1), ("middle", 3), ("last", 5), ("2", 2)])
def test_a_fault_strikes_the_page_it_is_meant_for(client: httpx2.Client, at: str, struck: int) -> None:
    query = f"{EVEN} fault:e500 at:{at}"
    options: dict[str, Any] = {}
    for page in range(1, 6):
        answer = search(client, query, **options)
        assert (answer.status_code == 500) == (page == struck)
        if page == struck:
            answer = search(client, query, **options)
        options["bookmarks"] = answer.json()["resource"]["options"].get("bookmarks")


@pytest.mark.parametrize("fault", ["login_wall", "consent_wall"])
def test_a_wall_is_html_with_status_200(client: httpx2.Client, fault: str) -> None:
    answer = search(client, f"glaze fault:{fault} at:first")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")


def test_bodies_break_off(client: httpx2.Client) -> None:
    with pytest.raises(json.JSONDecodeError):
        search(client, "glaze fault:truncated at:first").json()
    with pytest.raises(httpx2.RemoteProtocolError):
        search(client, "glaze fault:cut at:first")
    with pytest.raises(httpx2.ReadTimeout):
        client.timeout = httpx2.Timeout(0.3)
        search(client, "glaze fault:hang at:first")


def test_data_are_amiss_in_every_way(client: httpx2.Client) -> None:
    def given(fault: str, **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = search(client, f"{EVEN} fault:{fault} at:first times:always", **options).json()
        return answer

    assert None in given("nulls")["resource_response"]["data"]["results"]
    assert "story" in {result["type"] for result in given("stories")["resource_response"]["data"]["results"]}
    empty = given("empty_page")["resource_response"]
    assert empty["data"]["results"] == [] and len(empty["bookmark"]) > 1000
    cursor = given("loop")["resource_response"]["bookmark"]
    assert given("loop", bookmarks=[cursor])["resource_response"]["bookmark"] == cursor
    assert "bookmark" not in given("no_cursor")["resource_response"]
    assert not list(videos_in(given("stubs")))
    renamed = given("renamed_field")["resource_response"]["data"]["results"]
    assert all("media_videos" in pin and "videos" not in pin for pin in renamed if pin["type"] == "pin")
    assert "resource_response" not in given("changed_envelope")


def test_the_cdn_has_its_moods(client: httpx2.Client) -> None:
    def path_of(query: str) -> str:
        return next(video.path for video in expected_results(query).videos if video.path) or ""

    down = path_of("glaze fault:cdn_down")
    assert [client.head(down).status_code, client.head(down).status_code] == [503, 200]
    dead = path_of("glaze fault:cdn_down times:always")
    assert {client.get(dead).status_code for _ in range(3)} == {503}
    shy = path_of("glaze fault:cdn_head_forbidden")
    assert (client.head(shy).status_code, client.get(shy, headers={"Range": "bytes=0-0"}).status_code) == (403, 206)
    with pytest.raises(httpx2.ReadTimeout):
        client.head(path_of("glaze fault:cdn_slow"), timeout=0.3)


def test_boards_sections_users_and_related_pins_are_feeds(client: httpx2.Client) -> None:
    board = ask(client, "BoardResource", username="mia", slug="glazes").json()["resource_response"]["data"]

    def length(name: str, **options: Any) -> int:
        return len(ask(client, name, page_size=250, **options).json()["resource_response"]["data"])

    assert length("BoardFeedResource", board_id=board["id"]) == board["pin_count"] == 60
    assert length("BoardFeedResource", board_id=board["id"], filter_section_pins=True) == 36
    sections = ask(client, "BoardSectionsResource", board_id=board["id"]).json()["resource_response"]["data"]
    assert [length("BoardSectionPinsResource", section_id=section["id"]) for section in sections] == [12, 12]
    assert length("UserPinsResource", username="mia") >= 80
    assert length("UserActivityPinsResource", username="mia") >= 40
    pin = expected_results("glaze").videos[0].pins[0]
    assert length("RelatedPinFeedResource", pin=pin) >= 50
    assert ask(client, "BoardResource", username="nobody", slug="x").status_code == 404


def test_a_board_can_have_a_fault(client: httpx2.Client) -> None:
    slug = "glazes--pins-30--fault-e502--at-first"
    board = ask(client, "BoardResource", username="mia", slug=slug).json()["resource_response"]["data"]
    statuses = [ask(client, "BoardFeedResource", board_id=board["id"]).status_code for _ in range(2)]
    assert statuses == [502, 200]


def test_a_pin_page_has_one_of_two_shapes(client: httpx2.Client) -> None:
    video = next(video for video in expected_results("glaze").videos if video.path)
    pages = [client.get(f"/pin/a-slug--{video.pins[0]}/").text for _ in range(2)]
    (props,) = (page for page in pages if "__PWS_INITIAL_PROPS__" in page)
    (relay,) = (page for page in pages if "__PWS_RELAY_REGISTER_COMPLETED_REQUEST__" in page)
    state = json.loads(re.findall(r'<script id="__PWS_INITIAL_PROPS__"[^>]*>(.*?)</script>', props)[0])
    assert video.id in set(videos_in(state["initialReduxState"]["pins"][video.pins[0]]))
    registered = re.findall(r"COMPLETED_REQUEST__\((\".*?[^\\]\"), (\{.*\})\);</script>", relay)[0]
    data = json.loads(registered[1])["data"]["v3GetPinQueryv2"]["data"]
    assert data["entityId"] == video.pins[0]
    assert '"videoUrls"' in relay
    assert client.get("/pin/17/").status_code == 404


def test_the_first_page_may_be_in_the_html(client: httpx2.Client) -> None:
    assert "__PWS_INITIAL_PROPS__" not in client.get("/search/videos/?q=glaze&rs=typed").text
    assert "__PWS_INITIAL_PROPS__" in client.get("/search/videos/?q=glaze+embedded:yes&rs=typed").text


def test_a_short_link_leads_to_its_pin(client: httpx2.Client) -> None:
    pin = expected_results("glaze").videos[0].pins[0]
    answer = client.get(f"/_short/{base36(int(pin))}")
    assert answer.status_code == 302
    assert f"/pin/{pin}/" in answer.headers["location"]


def base36(value: int) -> str:
    digits = ""
    while value:
        value, digit = divmod(value, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits


def test_the_real_host_names_are_served_through_the_proxy(site: RunningSite) -> None:
    video = next(video for video in expected_results("glaze").videos if video.path)
    context = ssl.create_default_context(cafile=site.ca_file)
    with httpx2.Client(proxy=site.proxy, verify=context, base_url="https://www.pinterest.com") as client:
        text = search(client, "glaze pins:250", page_size=250).text
        assert "127.0.0.1" not in text
        assert set(re.findall(r"https://([\w.]+pinimg\.com)", text)) == {
            "i.pinimg.com",
            "v1.pinimg.com",
            "v.pinimg.com",
        }
        assert client.head(f"https://v1.pinimg.com{video.path}").status_code == 200
        assert client.head("https://v1.pinimg.com/").status_code == 404
        short = client.get(f"https://pin.it/{base36(int(video.pins[0]))}", follow_redirects=True)
        assert [urlsplit(str(hop.url)).hostname for hop in short.history] == ["pin.it", "api.pinterest.com"]
        assert short.url.path == f"/pin/{video.pins[0]}/sent/"
        pidgets = client.get(f"https://widgets.pinterest.com/v3/pidgets/pins/info/?pin_ids={video.pins[0]},17")
        assert [pin["id"] for pin in pidgets.json()["data"]] == [video.pins[0]]
    connects = httpx2.get(f"{site.origin}/_stand_in/connects").json()
    assert connects["www.pinterest.com"] >= 1


def test_requests_are_counted_by_kind() -> None:
    with running_site() as site, httpx2.Client(base_url=site.origin) as client:
        search(client, "glaze")
        client.get("/")
        counted = client.get("/_stand_in/requests").json()
        assert (counted["BaseSearchResource"], counted["home"], counted["total"]) == (1, 1, 2)
        assert [request["kind"] for request in client.get("/_stand_in/recent").json()][:2] == [
            "BaseSearchResource",
            "home",
        ]


def test_bytes_are_counted_by_kind_heads_and_bodies() -> None:
    with running_site() as site, httpx2.Client(base_url=site.origin, headers={"Accept-Encoding": "identity"}) as client:
        home = client.get("/")
        once = client.get("/_stand_in/bytes").json()["home"]
        client.head("/")
        head = client.get("/_stand_in/bytes").json()["home"] - once
        client.delete("/_stand_in/requests")
        assert "home" not in client.get("/_stand_in/bytes").json()
    assert once - len(home.content) == pytest.approx(head, abs=40)
    assert sum(len(name) + len(value) for name, value in home.headers.raw) < head < 2_000


def test_a_hanging_answer_does_not_hold_up_the_end() -> None:
    with (
        running_site() as site,
        httpx2.Client(base_url=site.origin, timeout=0.3) as client,
        pytest.raises(httpx2.ReadTimeout),
    ):
        search(client, "glaze fault:hang at:first")


@pytest.mark.peers
@pytest.mark.skipif(not PEERS, reason="PEERS_VENV names no environment with gallery-dl and pinterest-dl")
@pytest.mark.parametrize(
    "command",
    [
        ["gallery-dl", "-g", "https://www.pinterest.com/search/pins/?q=ceramic%20glaze%20scope:videos"],
        ["pinterest-dl", "search", "ceramic glaze scope:videos", "-n", "100", "--json"],
        ["python", "-c", "from py3pin.Pinterest import Pinterest as P; print(P().search('videos', 'ceramic glaze'))"],
    ],
    ids=["gallery-dl", "pinterest-dl", "py3-pinterest"],
)
def test_unmodified_crawlers_find_videos(site: RunningSite, tmp_path: Path, command: list[str]) -> None:
    environment = {**os.environ, "HTTPS_PROXY": site.proxy or "", "REQUESTS_CA_BUNDLE": site.ca_file or ""}
    program = str(Path(PEERS or "") / "bin" / command[0])
    done = subprocess.run(
        [program, *command[1:]], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    found = set(re.findall(r"v1?\.pinimg\.com/videos/\w+/hls/../../../([0-9a-f]{32})", done.stdout))
    assert len(found & expected_results("ceramic glaze scope:videos").by_id().keys()) > 30, done.stderr
