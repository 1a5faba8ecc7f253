"""What an address of the internet protocol is to who posts to it: public, private, or nobody's at all."""

from __future__ import annotations

import ipaddress
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address

GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # all of IPv6 that is given to anybody so far
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
NOT_PUBLIC = (
    ipaddress.IPv6Network("2001::/23"),  # Teredo and other protocols' own
    ipaddress.IPv6Network("3fff::/20"),  # for documents; not known to Python 3.11
)
METADATA = frozenset(  # of clouds, beside link-local ones: whoever reads there acts as the machine
    map(ipaddress.ip_address, ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)


class Reach(Enum):
    """Whom an address reaches."""

    PUBLIC = "public"
    PRIVATE = "private"
    NONE = "none"  # also where private ones are allowed


def reach(address: Address) -> Reach:
    """An IPv4 address in an IPv6 one counts as itself."""
    if isinstance(address, IPv6Address):
        inner = _inner(address)
        return _reach_6(address) if inner is None else reach(inner)
    if _nobodys(address) or address.is_link_local or address in METADATA:
        return Reach.NONE
    return Reach.PUBLIC if address.is_global else Reach.PRIVATE


def _reach_6(address: IPv6Address) -> Reach:
    if address.is_loopback:
        return Reach.PRIVATE
    if _nobodys(address) or address.is_link_local or address in METADATA:
        return Reach.NONE
    given = address in GLOBAL_UNICAST and not any(address in network for network in NOT_PUBLIC)
    return Reach.PUBLIC if given and address.is_global else Reach.PRIVATE


def _nobodys(address: Address) -> bool:
    return address.is_multicast or address.is_unspecified or (address.is_reserved and address.version == 4)


def _inner(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None
