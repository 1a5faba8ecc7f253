from __future__ import annotations

from base64 import b64decode

import pytest
from playwright.async_api import Error

from services.crawler.launch import Allowed, _why, egress
from services.crawler.settings import CrawlerSettings


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://pin.it/abc", True),
        ("https://api.pinterest.com/url_shortener/abc/redirect/", True),
        ("https://de.pinterest.com/mia/", True),
        ("https://v1.pinimg.com/videos/x.mp4", True),
        ("https://sub.pin.it/abc", False),
        ("https://notpin.it/abc", False),
        ("https://www.pinterest.co.uk/mia/", False),
        ("https://example.com/", False),
    ],
)
def test_the_hosts_of_short_links_are_reached_and_no_other(url: str, allowed: bool) -> None:
    assert Allowed.by(CrawlerSettings()).has(url) is allowed


def test_another_site_has_no_short_links_of_pinterests() -> None:
    allowed = Allowed.by(CrawlerSettings(site_url="http://127.0.0.1:8800"))
    assert not allowed.has("https://pin.it/abc")
    assert not allowed.has("https://api.pinterest.com/url_shortener/abc/redirect/")
    national = Allowed.by(CrawlerSettings(site_url="https://www.pinterest.de"))
    assert national.has("https://api.pinterest.com/url_shortener/abc/redirect/")
    assert not national.has("https://www.pinterest.com/mia/")


def test_chromium_is_told_of_them_exactly() -> None:
    [rules], _ = egress(CrawlerSettings())
    assert ", EXCLUDE pin.it, EXCLUDE api.pinterest.com" in rules
    assert "*.pin.it" not in rules
    flags, _ = egress(CrawlerSettings(upstream_proxy="http://10.0.0.1:3128"))
    script = b64decode(flags[1].partition("base64,")[2]).decode()
    assert 'host == "pin.it"' in script
    assert 'dnsDomainIs(host, ".pin.it")' not in script


@pytest.mark.parametrize(
    "said",
    [
        "[pid=55][err] [55:55:1127/015853.066922:ERROR:zygote_host_impl_linux.cc:128] No usable sandbox! If this is a",
        '[pid=57][err] Check failed: sys_chroot("/proc/self/fdinfo/") == 0',
    ],
)
def test_a_sandbox_that_is_refused_is_told_with_what_to_do(said: str) -> None:
    why = _why(Error(f"BrowserType.launch: Target page, context or browser has been closed\n{said}"))
    assert "BROWSER_SANDBOX is required" in why
    assert "deploy/seccomp/chromium.json" in why
