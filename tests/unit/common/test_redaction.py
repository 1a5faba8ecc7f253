"""What no log line holds."""

from __future__ import annotations

import secrets

import nkeys
import pytest

from libs.common.redaction import redacted

SEED = bytes(nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)).decode()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"seed {SEED} of a file", "seed SU\u2026 of a file"),
        ('{"url": "nats://gateway:pa55@nats:4222"}', '{"url": "nats://\u2026@nats:4222"}'),
        ("tls://one:two@a:1,nats://three@b:2", "tls://\u2026@a:1,nats://\u2026@b:2"),
        ("nats-route://routes:pa55@nats-0:6222", "nats-route://\u2026@nats-0:6222"),
    ],
)
def test_the_secrets_of_the_broker_are_not_shown(line: str, shown: str) -> None:
    assert redacted(line) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"ps_{'0a' * 8}_{'S' * 43} and on", f"ps_{'0a' * 8}_\u2026 and on"),
        (f"ps_{'0a' * 8}_{'S' * 30}...", f"ps_{'0a' * 8}_\u2026..."),
        (f"?ticket=pst_{'S' * 43}&a=1", "?ticket=pst_\u2026&a=1"),
        (f"pst_{'S' * 9}...", "pst_\u2026..."),
        ("a whsec_SSSSSSSSSSSSSSSS= b", "a whsec_\u2026 b"),
        ('"eyJhbGciOiJFUzI1NiJ9.SSSS.SSSS"', '"eyJ\u2026"'),
        ("eyJhbGciOiJFUzI1NiJ9.SSSS", "eyJ\u2026"),
        ("eyJhbGciOiJkaXIifQ..SSSS.SSSS.SSSS", "eyJ\u2026"),
        ("authorization: Bearer SSSS on", "authorization: Bearer \u2026 on"),
        ("at https://me:SSSS@proxy.internal:3128/x?y", "at https://\u2026@proxy.internal:3128/x?y"),
        ("socks5://me:SSSS@proxy", "socks5://\u2026@proxy"),
    ],
)
def test_the_secrets_of_callers_and_of_addresses_are_not_shown_not_even_cut_short(line: str, shown: str) -> None:
    assert redacted(line) == shown


def test_addresses_and_public_keys_are() -> None:
    public = nkeys.from_seed(bytearray(SEED.encode())).public_key.decode()
    line = (
        f"{public} at nats://nats-0:4222,tls://nats-1:4222 asked by someone@example.org of https://pins.example/@mia/"
    )
    assert redacted(line) == line
