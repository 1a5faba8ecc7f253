from __future__ import annotations

import pytest

from libs.common.bus import without_password


@pytest.mark.parametrize(
    ("urls", "shown"),
    [
        ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ("nats://user:secret@one:4222, nats://token@two:4222", "nats://one:4222,nats://two:4222"),
        ("user:secret@one:4222", "one:4222"),
        ("one:4222", "one:4222"),
    ],
)
def test_no_password_is_shown(urls: str, shown: str) -> None:
    assert without_password(urls) == shown
