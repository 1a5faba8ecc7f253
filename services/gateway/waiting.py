"""Connections whose clients owe a request, by address; they are counted nowhere else."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Sequence

from services.gateway.access_settings import trusted_networks


class Waiting:
    """At this gateway alone: at most `most` of each place, as `name` names addresses; what has no name is not limited.

    All that comes through one of the `proxies` has its address, and is not limited either.
    """

    def __init__(self, name: Callable[[str], str], most: int, proxies: Sequence[str] = ()) -> None:
        self._name, self.most = name, most
        self._proxies = trusted_networks(proxies)
        self._counts: Counter[str] = Counter()

    def place(self, host: str) -> str:
        """Of the peer of a connection."""
        address = ipaddress.ip_address(host)
        return "" if any(address in network for network in self._proxies) else self._name(host)

    def count(self, place: str) -> int:
        """How many wait."""
        return self._counts[place]

    def full(self, place: str) -> bool:
        """Whether no other may."""
        return bool(place) and self._counts[place] >= self.most

    def move(self, place: str, by: int) -> None:
        """One more, or one less."""
        if place:
            self._counts[place] += by
            if self._counts[place] <= 0:
                del self._counts[place]
