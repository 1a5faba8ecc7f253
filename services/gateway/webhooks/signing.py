"""Secrets and signatures of webhooks, as Standard Webhooks has them (https://www.standardwebhooks.com).

A secret is derived from the gateways' key: none is stored. Who has a name has one secret for all of its sessions; a
session of a caller without a name has one of its own, for others without a name must not be able to sign for it.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256

from libs.common import subjects
from libs.common.bus import Bus
from libs.common.webhook_key import KEY_BYTES
from services.gateway.places import shared_salt


class Secrets:
    """By the gateways' `keys`, the newest first. Use `secrets_of`."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys

    def shown(self, owner: str, session: str = "") -> str:
        """What a receiver verifies by: `whsec_…`. Without an owner it is the session's."""
        return f"whsec_{b64encode(self._derived(owner, session)[0]).decode()}"

    def signature(self, owner: str, session: str, id_: str, timestamp: int, body: bytes) -> str:
        """The header `webhook-signature`: by each key, so that receivers have time to take the new secret."""
        signed = b".".join((id_.encode(), str(timestamp).encode(), body))
        made = (hmac.digest(secret, signed, sha256) for secret in self._derived(owner, session))
        return " ".join(f"v1,{b64encode(one).decode()}" for one in made)

    def _derived(self, owner: str, session: str) -> list[bytes]:
        whose = f"owner\0{owner}" if owner else f"session\0{session}"
        return [hmac.digest(key, b"pinstream webhooks\0" + whose.encode(), sha256) for key in self._keys]


async def secrets_of(bus: Bus, keys: Sequence[str]) -> Secrets:
    """By `keys`, or where there are none by those that gateways share through the broker, see `webhook_key`."""
    if not keys:
        shared = await shared_salt(bus, subjects.WEBHOOK_KEY, KEY_BYTES)
        keys = (shared.value, *shared.before)
    return Secrets([key.encode() for key in keys])
