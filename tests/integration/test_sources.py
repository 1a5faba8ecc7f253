"""Sources beyond search, read with a real Chromium of the stand-in site: boards, sections, users, pins, short links."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import httpx2
import pytest

from libs.common.messages import Reason
from services.crawler.browser import Browser
from services.crawler.settings import CrawlerSettings
from tests.fake_pinterest.catalogue import read_pin
from tests.fake_pinterest.expected import expected_of
from tests.fake_pinterest.feeds import (
    Feed,
    board_feed,
    is_related_by_modules_alone,
    related_feed,
    search_feed,
    section_feed,
    user_feed,
)
from tests.fake_pinterest.running import RunningSite, running_site
from tests.integration.crawled import Crawl, Strategy, assert_found, settings

PINS = [pin for pin in search_feed("vases pins:400").catalogue() if pin.videos and not pin.embed]
PICTURE = next(pin.id for pin in search_feed("vases").catalogue() if pin.shape == "image")
STORY = next(pin.id for pin in PINS if pin.shape == "story-two")
IN_BOTH, IN_MODULES = (
    next(pin.id for pin in PINS if is_related_by_modules_alone(pin.id) is alone) for alone in (False, True)
)
MISSING = {
    "/mia/gone/": "board",
    "/mia/glazes/no-such-section/": "section",
    "/nobody/": "user",
    "/nobody/_saved/": "user",
    "/ghost/": "user",
    "/pin/12345/": "pin",
    "/pin/12345/#related": "pin",
}
WITHOUT_VIDEOS = ["/mia/pictures--mix-pictures/", "/mia/empty--pins-0/", "/mia--pins-0/"]
ALL_STRATEGIES = pytest.mark.parametrize("strategy", ["feed", "page", "auto"])
BOTH_WAYS = pytest.mark.parametrize("strategy", ["feed", "page"])


@pytest.fixture(scope="module")
def site() -> Iterator[RunningSite]:
    with running_site(tls=True) as site:
        yield site


async def crawl(site: RunningSite, path: str, strategy: Strategy = "auto") -> Crawl:
    [got] = await crawl_all(site, [path], strategy)
    return got


async def crawl_all(site: RunningSite, paths: Sequence[str], strategy: Strategy = "auto") -> list[Crawl]:
    """What came of each, in one browser; four at a time."""
    async with Browser(settings(site, strategy, warm_contexts=0)) as browser:
        return await asyncio.gather(*(Crawl().run(browser, "", site.origin + path) for path in paths))


def sure(feed: Feed | None) -> Feed:
    assert feed is not None
    return feed


def asked_for(site: RunningSite) -> dict[str, int]:
    answer = httpx2.get(f"{site.origin}/_stand_in/requests")
    httpx2.delete(f"{site.origin}/_stand_in/requests")
    counts: dict[str, int] = answer.json()
    return counts


SOURCES: list[tuple[str, list[Feed | None]]] = [
    ("/mia/glazes--pins-120/", [board_feed("mia", "glazes--pins-120")]),
    ("/mia/kilns--sections-apart/", [board_feed("mia", "kilns--sections-apart")]),
    ("/mia/glazes/second-firing/", [section_feed("mia", "glazes", "second-firing")]),
    ("/mia/_created/", [user_feed("mia", "created")]),
    ("/mia/_saved/", [user_feed("mia", "saved")]),
    ("/okafor/", [user_feed("okafor", "created"), user_feed("okafor", "saved")]),
    (f"/pin/{IN_BOTH}/#related", [related_feed(IN_BOTH)]),
    (f"/pin/a-vase--{IN_MODULES}/#related", [related_feed(IN_MODULES)]),
    ("/search/pins/?q=cups%20pins:40", [search_feed("cups pins:40")]),
]


@BOTH_WAYS
async def test_every_video_of_each_source_is_found_and_nothing_else(site: RunningSite, strategy: Strategy) -> None:
    found = await crawl_all(site, [path for path, _ in SOURCES], strategy)
    for (path, feeds), got in zip(SOURCES, found, strict=True):
        assert_found(got, *(expected_of(sure(feed)) for feed in feeds))
        assert got.ways == {strategy}, path
        assert [page.number for page in got.pages] == list(range(1, len(got.pages) + 1))


@BOTH_WAYS
async def test_a_pin_gives_all_its_videos(site: RunningSite, strategy: Strategy) -> None:
    pin = read_pin(STORY)
    assert pin is not None
    addresses = [f"/pin/{STORY}/", f"/pin/two-vases--{STORY}/sent/?invite_code=0"]  # the page has two shapes
    for got in await crawl_all(site, addresses, strategy):
        assert got.failed is None
        assert [media.signature for media in got.media.values()] == list(pin.videos)
        assert got.pages[-1].message is None


@ALL_STRATEGIES
async def test_a_pin_without_a_video_is_an_answer_and_no_error(site: RunningSite, strategy: Strategy) -> None:
    for got in await crawl_all(site, [f"/pin/{PICTURE}/"] * 2, strategy):
        assert got.failed is None
        assert not got.media
        assert got.pages[-1].message == "This pin has no video."


@ALL_STRATEGIES
async def test_what_does_not_exist_is_said_not_to_be_found(site: RunningSite, strategy: Strategy) -> None:
    for got, named in zip(await crawl_all(site, list(MISSING), strategy), MISSING.values(), strict=True):
        assert got.failed is not None
        assert got.failed.reason is Reason.NOT_FOUND
        assert got.failed.message.startswith(f"There is no such {named}")


@BOTH_WAYS
async def test_a_source_without_a_video_is_read_to_its_end(site: RunningSite, strategy: Strategy) -> None:
    for got in await crawl_all(site, WITHOUT_VIDEOS, strategy):
        assert got.failed is None
        assert not got.media
        assert all(page.message is None for page in got.pages)


@pytest.mark.parametrize(
    ("strategy", "faults"), [("feed", ["e503", "cut", "empty_page", "loop", "no_cursor"]), ("page", ["e503", "loop"])]
)
async def test_a_fault_of_the_moment_costs_a_board_no_video(
    site: RunningSite, strategy: Strategy, faults: list[str]
) -> None:
    slugs = [f"glazes--pins-120--seed-{strategy}--fault-{fault}" for fault in faults]
    found = await crawl_all(site, [f"/mia/{slug}/" for slug in slugs], strategy)
    for slug, got in zip(slugs, found, strict=True):
        assert_found(got, expected_of(sure(board_feed("mia", slug))))


async def test_a_user_whose_feed_is_refused_is_read_by_the_page(site: RunningSite) -> None:
    names = [f"sato--pins-60--fault-{fault}" for fault in ("forbidden", "login_wall", "stubs")]
    for name, got in zip(names, await crawl_all(site, [f"/{name}/_created/" for name in names]), strict=True):
        assert_found(got, expected_of(sure(user_feed(name, "created"))))
        assert "page" in got.ways


async def test_a_lasting_refusal_of_a_board_ends_with_its_reason_and_what_was_found(site: RunningSite) -> None:
    reasons = {"forbidden": Reason.BLOCKED, "loop": Reason.UPSTREAM_CHANGED, "e500": Reason.UNREACHABLE}
    paths = [f"/mia/bowls--pins-240--fault-{fault}--times-always/" for fault in reasons]
    for got, reason in zip(await crawl_all(site, paths, "feed"), reasons.values(), strict=True):
        assert got.failed is not None
        assert got.failed.reason is reason
        assert got.media


async def test_sections_that_the_boards_own_list_holds_are_not_all_read_again(site: RunningSite) -> None:
    asked_for(site)
    await crawl(site, "/mia/jugs/", "feed")
    assert asked_for(site)["BoardSectionPinsResource"] == 1
    await crawl(site, "/mia/jugs--sections-apart/", "feed")
    assert asked_for(site)["BoardSectionPinsResource"] == 2


@pytest.mark.parametrize("code", ["board", "national"])
async def test_a_short_link_is_followed_from_host_to_host(site: RunningSite, code: str) -> None:
    got, hosts = await _followed(site, code)
    assert_found(got, expected_of(sure(board_feed("mia", "glazes"))))
    assert {"pin.it", "api.pinterest.com", "www.pinterest.com"} <= hosts
    assert not hosts & {"www.pinterest.co.uk", "example.com"}


async def test_a_short_link_to_a_pin_gives_its_videos(site: RunningSite) -> None:
    got = await crawl(site, f"/url_shortener/{_base36(int(STORY))}/redirect/")
    assert len(got.media) == 2


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("elsewhere", "https://example.com/pin/1/, which cannot be read: example.com is not a host"),
        ("ideas", "https://www.pinterest.com/ideas/, which cannot be read: /ideas/ is a page of the site"),
        ("nothing", "There is no such short link."),
    ],
)
async def test_a_short_link_to_no_source_is_refused_with_a_sentence(site: RunningSite, code: str, said: str) -> None:
    got, hosts = await _followed(site, code)
    assert got.failed is not None
    assert got.failed.reason is Reason.NOT_FOUND
    assert said in got.failed.message
    assert "example.com" not in hosts


async def _followed(site: RunningSite, code: str) -> tuple[Crawl, set[str]]:
    """What came of it under the real host names, and the hosts that were asked for of the proxy."""
    asked_for(site)
    told = CrawlerSettings(
        upstream_proxy=site.proxy, upstream_ca_file=site.ca_file, requests_per_second=100, warm_contexts=0
    )
    async with Browser(told) as browser:
        got = await Crawl().run(browser, "", f"https://pin.it/{code}")
    return got, set(httpx2.get(f"{site.origin}/_stand_in/connects").json())


def _base36(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    return (_base36(number // 36) if number >= 36 else "") + digits[number % 36]
