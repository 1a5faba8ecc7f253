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


def test_addresses_and_public_keys_are() -> None:
    public = nkeys.from_seed(bytearray(SEED.encode())).public_key.decode()
    line = f"{public} at nats://nats-0:4222,tls://nats-1:4222 asked by someone@example.org"
    assert redacted(line) == line
