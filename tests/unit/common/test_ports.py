from __future__ import annotations

import socket
import sys

import pytest

from libs.common.errors import StartFailed
from libs.common.health import listen


@pytest.mark.parametrize(("platform", "reused"), [("linux", True), ("darwin", True), ("win32", False)])
def test_a_port_is_never_shared_with_another_process(
    monkeypatch: pytest.MonkeyPatch, platform: str, reused: bool
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with listen("127.0.0.1", 0) as sock:
        assert bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)) is reused
        with pytest.raises(StartFailed, match="is taken"):
            listen("127.0.0.1", sock.getsockname()[1])
