"""Who asks: each way into the gateway acts for a caller, and a session is its owner's alone."""

from __future__ import annotations

from collections.abc import MutableMapping
from hashlib import blake2b
from typing import Any

import msgspec

from libs.common.errors import PinstreamError

HERE = "here"  # no owner's name: those begin with what they came with
SCOPE_KEY = "pinstream.caller"


class TokenRefused(PinstreamError):
    """That is no valid key, token or ticket."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """`owner` is written to the sessions that it begins; that of a caller without a name is empty.

    `key` is the id of the API key that it came with; `until` is when its token expires, seconds since 1970.
    `place` stands for its address; `here`: it is on the gateway's own machine, which alone can reach it, and whose
    sessions without a name are listed together. One that is not `admitted` may do nothing until it has given a token.
    One that came `by_ticket` may use its connection, and is given no further ticket.
    """

    owner: str = ""
    key: str | None = None
    until: float | None = None
    place: str = ""
    here: bool = False
    admitted: bool = True
    by_ticket: bool = False

    def may_see(self, owner: str) -> bool:
        """Whether a session of `owner` is its own; one of nobody is open to who knows its id, which none can guess."""
        return self.admitted and owner in ("", self.owner)

    @property
    def listed_as(self) -> str:
        """Under which name its sessions are listed; empty where they are not."""
        return self.owner or (HERE if self.here else "")

    def scope(self, name: str) -> str:
        """What `name` is to everybody: scopes of one name are different ones to different owners."""
        return f"{blake2b(self.owner.encode(), digest_size=12).hexdigest()}-{name}" if self.owner else name


ANONYMOUS = Caller()
LOCAL = Caller(here=True)
STRANGER = Caller(admitted=False)


def caller_of(scope: MutableMapping[str, Any]) -> Caller:
    """The caller of an ASGI connection, as it was found out before it came to a route."""
    caller: Caller = scope.get(SCOPE_KEY, ANONYMOUS)
    return caller
