"""What no log line may hold: keys, seeds, passwords of addresses, tickets and tokens, wherever in it they stand, libraries' lines included."""

from __future__ import annotations

import re

from structlog.typing import EventDict, WrappedLogger

SECRET = re.compile(
    r"(?P<key>ps_[0-9a-f]{16}_)[A-Za-z0-9_-]{43}"
    r"|(?P<ticket>pst_)[A-Za-z0-9_-]{43}"
    r"|(?P<jwt>eyJ)[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
    r"|(?P<seed>\bS[UAONC])[A-Z2-7]{56}\b"
    r"|(?P<userinfo>\b(?:nats|tls|wss?)://)[^@/\s,\"'\\]+(?=@)"
    r"|(?P<bearer>\bBearer )[^\s\"'\\]+",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """`text` with an ellipsis for each secret; what names a key stays."""
    return SECRET.sub(lambda found: f"{next(part for part in found.groups() if part is not None)}\u2026", text)


def redact(_logger: WrappedLogger, _method: str, line: str | EventDict) -> str:
    """The last processor of a log: the finished line without its secrets."""
    return redacted(str(line))
