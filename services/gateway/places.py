"""Places: what stands for a client's address in records, the same at every gateway and of use to nobody else."""

from __future__ import annotations

import ipaddress
import secrets
from hashlib import blake2b

from libs.common import subjects
from libs.common.bus import Bus
from libs.common.errors import AlreadyExists, BrokerUnavailable
from libs.common.messages import Salt, decode, encode

IPV6_PREFIX = 64  # what one customer of a provider has at least


class Places:
    """Names of addresses. Use `places`."""

    def __init__(self, salt: str) -> None:
        self._salt = salt.encode()[:64]

    def name(self, host: str | None) -> str:
        """That of an address; empty for this machine's own, and where there is none, which are not limited.

        All that a proxy has no address of (`unknown`, say) are in one place.
        """
        if host is None:
            return ""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return self._digest("unknown")
        if isinstance(address, ipaddress.IPv6Address):
            if address.ipv4_mapped is not None:
                return self.name(str(address.ipv4_mapped))
            if not address.is_loopback:
                network = ipaddress.ip_network((address, IPV6_PREFIX), strict=False)
                return self._digest(str(network))
        return "" if address.is_loopback else self._digest(str(address))

    def _digest(self, text: str) -> str:
        return blake2b(text.encode(), key=self._salt, digest_size=8).hexdigest()


async def shared_salt(bus: Bus, subject: str, size: int = 16) -> Salt:
    """What all gateways share under `subject`; the first one makes it, of `size` random bytes in hex."""
    try:
        mine = Salt(value=secrets.token_hex(size))
        await bus.publish(subject, encode(mine), create=True)
        return mine
    except AlreadyExists:
        stored = await bus.last(subjects.ACCESS, subject)
        if stored is None:
            raise BrokerUnavailable("what gateways share cannot be read yet") from None
        return decode(stored.body, Salt)


async def places(bus: Bus) -> Places:
    """By the salt that all gateways share."""
    return Places((await shared_salt(bus, subjects.ACCESS_SALT)).value)
