"""What one client sends, before it is read: as text, not too much at once, and not too fast."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from libs.common.frames import ErrorCode, ErrorFrame
from libs.common.pace import Rate
from services.gateway.limit_settings import LimitSettings
from services.gateway.limits import BURST_S
from services.gateway.rates import Allowance

PATIENCE = Rate(0.2, 20)  # messages that come too fast are answered so often before the connection is ended


class Intake:
    """Of one connection; it is `worn_out` by who goes on when told to slow down."""

    def __init__(self, settings: LimitSettings) -> None:
        per_second = settings.messages_per_second
        self._most = settings.message_max_bytes
        self._allowance = Allowance(Rate(per_second, max(1, round(per_second * BURST_S))))
        self._patience = Allowance(PATIENCE)
        self.worn_out = False

    def refusal(self, message: MutableMapping[str, Any]) -> ErrorFrame | None:
        """What is wrong with a message, if anything is."""
        wait_s = self.early_s()
        if wait_s > 0:
            told = "too many messages; this one was not read"
            return ErrorFrame(code=ErrorCode.RATE_LIMITED, message=told, retry_after_s=round(wait_s, 3))
        text = message.get("text")
        if text is None:
            return ErrorFrame(code="invalid_request", field="message", message="send text frames, not binary")
        if bytes_of(text) > self._most:
            told = f"a message has at most {self._most} bytes"
            return ErrorFrame(code="message_too_large", field="message", message=told)
        return None

    def early_s(self) -> float:
        """How many seconds too early a message comes, 0 where it may come now."""
        wait_s = self._allowance.take()
        self.worn_out = wait_s > 0 and self._patience.take() > 0
        return wait_s


def bytes_of(text: str) -> int:
    """How many it was sent in."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
