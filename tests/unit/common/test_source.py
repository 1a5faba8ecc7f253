from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.source import (
    BoardSource,
    NotASource,
    PinSource,
    RelatedSource,
    SearchSource,
    SectionSource,
    ShortLink,
    Source,
    UserSource,
    is_pinterest,
    is_url,
    path_of,
    source_at,
)

STAND_IN = "http://127.0.0.1:8800"
GLAZES = BoardSource("mia", "glazes")

KNOWN: list[tuple[str, Source]] = [
    ("https://www.pinterest.com/search/pins/?q=ceramic%20glaze&rs=typed", SearchSource("ceramic glaze")),
    ("https://www.pinterest.com/search/videos/?rs=ac&q=ceramic+glaze", SearchSource("ceramic glaze")),
    ("https://www.pinterest.de/search/pins/?q=t%C3%B6pfern", SearchSource("töpfern")),
    ("https://www.pinterest.com/search/?q=vase", SearchSource("vase")),
    ("https://www.pinterest.com/pin/731624513223513127/", PinSource("731624513223513127")),
    ("https://www.pinterest.com/pin/731624513223513127", PinSource("731624513223513127")),
    ("https://www.pinterest.com/pin/blue-rutile-on-porcelain--664281013778109217/", PinSource("664281013778109217")),
    ("https://www.pinterest.com/pin/a--b--664281013778109217/", PinSource("664281013778109217")),
    ("https://www.pinterest.com/pin/%E9%99%B6%E8%89%BA--664281013778109217/", PinSource("664281013778109217")),
    ("https://www.pinterest.com/pin/12/sent/?invite_code=0a&sender=99&sfo=1", PinSource("12")),
    ("https://www.pinterest.com/pin/12/#imgViewer", PinSource("12")),
    ("https://www.pinterest.com/pin/12/#related", RelatedSource("12")),
    ("https://br.pinterest.com/pin/um-vaso--12/?mt=login#related", RelatedSource("12")),
    ("https://www.pinterest.com/mia/", UserSource("mia")),
    ("https://www.pinterest.com/mia", UserSource("mia")),
    ("https://www.pinterest.com/mia/_created/", UserSource("mia", saved=False)),
    ("https://www.pinterest.com/mia/_saved", UserSource("mia", created=False)),
    ("https://www.pinterest.com/mia/glazes/", GLAZES),
    ("http://www.pinterest.com/mia/glazes", GLAZES),
    ("//www.pinterest.com/mia/glazes/", GLAZES),
    ("www.pinterest.com/mia/glazes/", GLAZES),
    ("pinterest.com/mia/glazes", GLAZES),
    ("HTTPS://WWW.PINTEREST.COM/mia/glazes/?utm_source=share", GLAZES),
    ("https://www.pinterest.com:443//mia///glazes//", GLAZES),
    ("https://www.pinterest.com./mia/glazes/", GLAZES),
    ("  https://www.pinterest.com/mia/glazes/\n", GLAZES),
    ("https://www.pinterest.com/mia/d%C3%A9co-%F0%9F%8F%BA/", BoardSource("mia", "déco-🏺")),
    ("https://www.pinterest.com/mia/déco/", BoardSource("mia", "déco")),
    ("https://www.pinterest.com/mia/glazes/first-firing/", SectionSource("mia", "glazes", "first-firing")),
    ("https://www.pinterest.com/mia/search/", BoardSource("mia", "search")),
    ("https://pin.it/3xKkRzv", ShortLink("3xKkRzv")),
    ("pin.it/3xKkRzv/", ShortLink("3xKkRzv")),
    ("http://pin.it/3xKkRzv?utm=x", ShortLink("3xKkRzv")),
    ("https://api.pinterest.com/url_shortener/3xKkRzv/redirect/", ShortLink("3xKkRzv")),
    ("https://www.pinterest.com/url_shortener/3xKkRzv/redirect", ShortLink("3xKkRzv")),
]

HOSTS = [
    *("de.pinterest.com", "br.pinterest.com", "fr.pinterest.com", "in.pinterest.com", "www.pinterest.co.uk"),
    *("www.pinterest.de", "pinterest.de", "www.pinterest.fr", "www.pinterest.jp", "pinterest.jp"),
    *("www.pinterest.com.au", "www.pinterest.com.mx", "www.pinterest.co.kr", "www.pinterest.it", "www.pinterest.es"),
    *("www.pinterest.ca", "www.pinterest.ch", "www.pinterest.at", "www.pinterest.pt", "www.pinterest.ie"),
    *("www.pinterest.dk", "www.pinterest.se", "www.pinterest.nz", "www.pinterest.ph", "www.pinterest.ru"),
    *("www.pinterest.cl", "www.pinterest.info", "www.pinterest.com.uy", "www.pinterest.com.vn", "www.pinterest.co.in"),
    *("www.pinterest.co.at", "uk.pinterest.com", "za.pinterest.com", "ar.pinterest.com", "m.pinterest.com"),
    "xx.pinterest.co.uk",
]

REFUSED: list[tuple[str, str]] = [
    ("", "empty"),
    ("   ", "empty"),
    ("https://example.com/mia/glazes/", "example.com is not a host of Pinterest"),
    ("https://notpinterest.com/mia/", "notpinterest.com is not"),
    ("https://pinterest.com.example.com/mia/", "is not a host"),
    ("https://pinterest.example/mia/", "is not a host"),
    ("https://www.pinterest.com@example.com/mia/", "no user"),
    ("https://example.com@www.pinterest.com/mia/", "no user"),
    ("https://www.pinterest.com\\@example.com/mia/", "characters"),
    ("https://www.pinterest.com/mia\\glazes/", "characters"),
    ("https://www.pinterest.com/mia/ glazes/", "characters"),
    ("https://www.pinterest.com/mia/\x00/", "characters"),
    ("https://www.pinterest.com/mia/%00/", "names nothing"),
    ("https://www.pinterest.com/mia/%0d%0aSet-Cookie/", "names nothing"),
    ("https://www.pinterest.com/mia/%2F%2Fexample.com/", "names nothing"),
    ("https://www.pinterest.com/mia/../nova/", "names nothing"),
    ("https://www.pinterest.com/%2e%2e/nova/", "names nothing"),
    ("https://www.pinterest.com/mia/%ff/", "no UTF-8"),
    ("https://www.pinterest.com/" + "m" * 300, "300 characters"),
    ("https://www.pinterest.com/mia/?x=" + "m" * 3000, "3033 characters"),
    ("https://[::1/mia/", "cannot be read"),
    ("https://www.pinterest.com:99999/mia/", "cannot be read"),
    ("https://\uff50interest.com/mia/", "is not a host"),
    ("ftp://www.pinterest.com/mia/", "https://"),
    ("file:///etc/passwd", "https://"),
    ("javascript:alert(1)", "cannot be read"),
    ("https://169.254.169.254/latest/", "is not a host"),
    ("https:///mia/glazes/", "it is not a host"),
    ("https://www.pinterest.com/", "names no search"),
    ("https://www.pinterest.com", "names no search"),
    ("https://www.pinterest.com/pin/", "/pin/<number>/"),
    ("https://www.pinterest.com/pin/create/button/?url=x", "/pin/<number>/"),
    ("https://www.pinterest.com/pin/१२३/", "/pin/<number>/"),
    ("https://www.pinterest.com/pin/123456789012345678901/", "/pin/<number>/"),
    ("https://www.pinterest.com/search/boards/?q=vase", "pins and for videos"),
    ("https://www.pinterest.com/search/pins/", "needs a topic"),
    ("https://www.pinterest.com/search/pins/?q=%20", "needs a topic"),
    ("https://www.pinterest.com/search/pins/?q=%ff", "query"),
    ("https://www.pinterest.com/mia/_shop/", "_created"),
    ("https://www.pinterest.com/mia/_saved/more/", "_created"),
    ("https://www.pinterest.com/mia/glazes/first-firing/more/", "longer"),
    ("https://pin.it/", "pin.it/<code>"),
    ("https://pin.it/a/b", "pin.it/<code>"),
    ("https://pin.it/a%20b", "pin.it/<code>"),
    ("https://sub.pin.it/abc", "is not a host"),
    ("https://api.pinterest.com/v5/pins/", "api.pinterest.com has no pins"),
    ("https://help.pinterest.com/en/article/x", "help.pinterest.com has no pins"),
    ("https://i.pinimg.com/originals/aa/bb/cc/x.jpg", "is not a host"),
]


@pytest.mark.parametrize(("url", "source"), KNOWN)
def test_an_address_of_the_site_stands_for_its_source(url: str, source: Source) -> None:
    assert source_at(url) == source


@pytest.mark.parametrize("host", HOSTS)
def test_every_countrys_host_is_understood_with_and_without_a_scheme(host: str) -> None:
    for scheme in ("https://", "http://", "//", ""):
        assert source_at(f"{scheme}{host}/mia/glazes/") == GLAZES
    assert is_pinterest(f"https://{host}")
    assert is_url(f"{host}/mia/glazes/")


@pytest.mark.parametrize(("url", "said"), REFUSED)
def test_what_is_no_source_is_refused_with_a_sentence(url: str, said: str) -> None:
    with pytest.raises(NotASource, match=re.escape(said)) as refused:
        source_at(url)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "name",
    [
        *("search", "ideas", "today", "settings", "business", "news_hub", "categories", "topics", "discover"),
        *("login", "signup", "about", "_", "resource"),
    ],
)
def test_a_page_of_the_site_is_never_a_user(name: str) -> None:
    for path in (f"/{name}/", f"/{name.upper()}/x/"):
        with pytest.raises(NotASource):
            source_at(f"https://www.pinterest.com{path}")


def test_the_sites_own_origin_is_understood_and_no_other_port_of_it() -> None:
    for url in (f"{STAND_IN}/mia/glazes/", "127.0.0.1:8800/mia/glazes/"):
        assert source_at(url, STAND_IN) == GLAZES
    assert source_at("https://stand.in/mia/glazes/", "http://stand.in/") == GLAZES
    assert source_at("https://www.pinterest.de/mia/glazes/", STAND_IN) == GLAZES
    assert source_at(f"{STAND_IN}/url_shortener/abc/redirect/", STAND_IN) == ShortLink("abc")
    for url in ("http://127.0.0.1:8801/mia/glazes/", "http://127.0.0.1/mia/glazes/"):
        with pytest.raises(NotASource):
            source_at(url, STAND_IN)
    assert not is_pinterest(STAND_IN)


@pytest.mark.parametrize(
    "topic",
    [
        "ceramic glaze",
        "pinterest",
        "pinterest.com",
        "pin.it",
        "pin.it/",
        "www.pinterest.com aesthetics",
        "pinterest.com/mia and friends",
        "https:// what does it mean",
        "and/or",
        "24/7 vases",
        "a/b testing",
        "node.js/react",
        "e.g. vases",
        "q: what://",
        "pottery: throwing",
        "seed:1 pins:60",
        "notpinterest.com/mia",
        "",
    ],
)
def test_a_topic_is_never_taken_for_an_address(topic: str) -> None:
    assert not is_url(topic)


@pytest.mark.parametrize("url", [*(url for url, _ in KNOWN if not url.startswith("//")), "https://example.com/x"])
def test_an_address_is_told_from_a_topic(url: str) -> None:
    assert is_url(url)


@given(st.text(max_size=80))
def test_any_text_is_a_source_or_refused(text: str) -> None:
    for url in (text, f"https://www.pinterest.com/{text}", f"https://{text}/mia/", f"https://www.pinterest.com{text}"):
        is_url(url)
        try:
            source = source_at(url, STAND_IN)
        except NotASource as refused:
            assert str(refused)
        else:
            assert all(part is False or part for part in source)


name = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/\\"), min_size=1, max_size=40).filter(
    lambda text: text.strip() == text and text.isprintable() and not text.startswith((".", "_"))
)


@given(name, name, name)
def test_what_a_path_was_made_of_is_read_from_it(username: str, slug: str, section: str) -> None:
    username = f"u{username}"
    assert source_at(f"https://www.pinterest.com{path_of(username)}") == UserSource(username)
    assert source_at(f"https://www.pinterest.com{path_of(username, slug)}") == BoardSource(username, slug)
    board = SectionSource(username, slug, section)
    assert source_at(f"https://de.pinterest.com{path_of(username, slug, section)}?q={quote(slug)}") == board
    assert path_of(username, slug).count("/") == 3
