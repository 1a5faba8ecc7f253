"""Who asks: each way into the gateway acts for a caller, and a session is its owner's alone."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import msgspec

from libs.common.errors import PinstreamError

SCOPE_KEY = "pinstream.caller"


class TokenRefused(PinstreamError):
    """That is no valid key, token or ticket."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """`owner` is written to the sessions that it begins; that of a caller without a name is empty."""

    owner: str = ""

    def may_see(self, owner: str) -> bool:
        """Whether a session of `owner` is its own; one of nobody is open to who knows its id, which none can guess."""
        return owner in ("", self.owner)


ANONYMOUS = Caller()


def caller_of(scope: MutableMapping[str, Any]) -> Caller:
    """The caller of an ASGI connection, as it was found out before it came to a route."""
    caller: Caller = scope.get(SCOPE_KEY, ANONYMOUS)
    return caller
