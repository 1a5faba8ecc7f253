"""Lists of hosts in settings: `pinimg.com` is a suffix, `127.0.0.1:8800` is exact."""

from __future__ import annotations

import re
from collections.abc import Iterable

_with_port = re.compile(r".*:\d+")


class Hosts:
    """Those that `entries` name."""

    def __init__(self, entries: Iterable[str]) -> None:
        named = [entry.lower().lstrip(".") for entry in entries]
        self._exact = {entry for entry in named if _with_port.fullmatch(entry)}
        self._suffixes = [entry for entry in named if entry not in self._exact]

    def has(self, host: str, port: int) -> bool:
        """Whether the host at that port is one of them; an IPv6 address comes without brackets."""
        host = host.lower().rstrip(".")
        named = f"[{host}]" if ":" in host else host
        if f"{named}:{port}" in self._exact:
            return True
        return any(host == suffix or host.endswith(f".{suffix}") for suffix in self._suffixes)
