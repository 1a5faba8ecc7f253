"""What no log line may hold: keys, seeds, passwords in addresses, tickets and tokens, wherever in it they stand.

What is shown to whoever looks at the system holds less: no session's id, which opens one that was begun without a key.
"""

from __future__ import annotations

import re

from structlog.typing import EventDict, WrappedLogger

SECRET = re.compile(
    r"(?P<key>ps_[0-9a-f]{16}_)[A-Za-z0-9_-]{8,}"  # these may lack their end, where a line was cut
    r"|(?P<ticket>pst_)[A-Za-z0-9_-]{8,}"
    r"|(?P<webhook>whsec_)[A-Za-z0-9+/=_-]{8,}"
    r"|(?P<jwt>eyJ)[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)+"
    r"|(?P<seed>\bS[UAONC])[A-Z2-7]{56}\b"
    r"|(?P<userinfo>\b(?:nats(?:-route)?|tls|wss?|https?|socks5h?)://)[^@/\s,\"'\\]+(?=@)"
    r"|(?P<bearer>\bBearer )[^\s\"'\\]+",
    re.IGNORECASE,
)

ID = re.compile(r"\b[0-9a-f]{32}\b", re.IGNORECASE)  # of a session, or of a video
USERINFO = re.compile(r"(?<=://)[^@/\s]*@")


def redacted(text: str) -> str:
    """`text` with an ellipsis for each secret; what names a key stays."""
    return SECRET.sub(lambda found: f"{next(part for part in found.groups() if part is not None)}\u2026", text)


def anonymous(text: str) -> str:
    """`redacted`, with an ellipsis for each id too, and addresses without user and password."""
    return ID.sub("\u2026", USERINFO.sub("", redacted(text)))


def redact(_logger: WrappedLogger, _method: str, line: str | EventDict) -> str:
    """The last processor of a log: the finished line without its secrets."""
    return redacted(str(line))
