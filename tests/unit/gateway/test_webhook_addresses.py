"""Whom a webhook may reach, by its address and by its `callback_url`."""

from __future__ import annotations

import ipaddress

import pytest

from services.gateway.operations import InvalidOperation, parse_operation
from services.gateway.webhooks.addresses import Reach, reach
from services.gateway.webhooks.dialing import Dialer
from services.gateway.webhooks.target import NotATarget, Receivers, Target, target_of

PUBLIC = ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
PRIVATE = [
    *("127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "198.18.0.1", "192.0.2.1"),
    *("::1", "fc00::1", "fd12::1", "fec0::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1", "64:ff9b:1::1"),
    *("::ffff:127.0.0.1", "::ffff:a00:1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::"),
    *("2002:a00:1::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
]
NOBODY = [
    *("169.254.169.254", "0.0.0.0", "255.255.255.255", "240.0.0.1", "224.0.0.1", "168.63.129.16", "100.100.100.200"),
    *("::", "fe80::1", "ff02::1", "fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::"),
]
CASES = [
    *((text, Reach.PUBLIC) for text in PUBLIC),
    *((text, Reach.PRIVATE) for text in PRIVATE),
    *((text, Reach.NONE) for text in NOBODY),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_an_address_reaches_what_it_reaches_however_it_is_wrapped(text: str, expected: Reach) -> None:
    assert reach(ipaddress.ip_address(text)) is expected


@pytest.mark.parametrize("text", [*PRIVATE, *NOBODY])
def test_one_address_that_is_not_public_among_others_is_enough(text: str) -> None:
    target = Target("https", "receiver.example", 443, b"/")
    assert Dialer(Receivers()).fit(target, ["8.8.8.8", "2606:4700::1111"])
    assert not Dialer(Receivers()).fit(target, ["8.8.8.8", text])
    assert not Dialer(Receivers()).fit(target, [])
    allowed = Dialer(Receivers(("receiver.example",)))
    assert allowed.fit(target, [text]) is (text in PRIVATE), "some are reached by nobody"
    assert not allowed.fit(target._replace(host="other.example"), [text])


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("https://receiver.example/hooks?from=pinstream", None),
        ("https://receiver.example:8443/", None),
        ("https://bücher.example/ü", None),
        ("https://8.8.8.8/", None),
        ("https://[2606:4700::1111]:8443/", None),
        ("HTTPS://RECEIVER.EXAMPLE./", None),
        ("http://receiver.example/", "https"),
        ("ftp://receiver.example/", "such as"),
        ("//receiver.example/", "such as"),
        ("/hooks", "such as"),
        ("", "such as"),
        ("https:///hooks", "such as"),
        ("https://.../", "such as"),
        ("https://user:secret@receiver.example/", "user name"),
        ("https://@receiver.example/", "user name"),
        ("https://receiver.example#@127.0.0.1/", "fragment"),
        ("https://receiver.example\\@127.0.0.1/", "backslash"),
        ("https://receiver.example/a b", "spaces"),
        ("https://receiver.example/\r\nX: y", "control"),
        ("https://receiver.example:22/", "port"),
        ("https://receiver.example:80/", "port"),
        ("https://receiver.example:0/", "port"),
        ("https://1.1.1.1:0/", "port"),
        ("https://receiver.example:99999/", "port"),
        (f"https://receiver.example/{'x' * 2048}", "2048"),
        ("https://localhost/", "public"),
        ("https://a.localhost./", "public"),
        ("https://127.0.0.1/", "public"),
        ("https://169.254.169.254/latest/meta-data", "public"),
        ("https://[::1]/", "public"),
        ("https://[::ffff:127.0.0.1]/", "public"),
        ("https://[::ffff:7f00:1]/", "public"),
        ("https://[64:ff9b::7f00:1]/", "public"),
        ("https://[fe80::1%25eth0]/", "usually written"),
        ("https://2130706433/", "usually written"),
        ("https://0x7f000001/", "usually written"),
        ("https://017700000001/", "usually written"),
        ("https://127.1/", "usually written"),
        ("https://0x7f.0.0.1/", "usually written"),
        ("https://127.0.0.0x1/", "usually written"),
        ("https://①②⑦.0.0.1/", "address"),
    ],
)
def test_a_callback_url_is_refused_by_what_is_wrong_with_it(url: str, named: str | None) -> None:
    amiss = Receivers().amiss(url)
    assert amiss is None if named is None else named in (amiss or ""), amiss


def test_hosts_that_are_named_may_be_private_and_without_tls_and_no_others() -> None:
    receivers = Receivers(("127.0.0.1:9000", "hooks.internal"))
    for url in ("http://127.0.0.1:9000/x", "http://a.hooks.internal/", "https://hooks.internal:8443/"):
        assert receivers.amiss(url) is None
    for url in ("http://127.0.0.1:9001/", "http://nohooks.internal/", "https://127.0.0.1/", "http://[::1]:9000/"):
        assert receivers.amiss(url)
    assert "no webhooks" in (Receivers(on=False).amiss("https://receiver.example/") or "")


def test_what_is_connected_to_is_what_was_checked() -> None:
    assert target_of("https://Bücher.example.:8443/a/../ü?q=1") == Target(
        "https", "xn--bcher-kva.example", 8443, target_of("https://x.example/a/../ü?q=1").path
    )
    assert target_of("https://[2606:4700::1111]/").place == "[2606:4700::1111]"
    with pytest.raises(NotATarget):
        target_of("https://exa mple/")


def test_a_refusal_names_the_parameter() -> None:
    with pytest.raises(InvalidOperation, match="callback_url must be an https") as refused:
        parse_operation(
            '{"operation":"initiate_extraction","parameters":{"search_query":"x","callback_url":"http://a.example"}}'
        )
    assert refused.value.field == "parameters.callback_url"
