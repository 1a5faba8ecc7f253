"""The key of webhooks' secrets that gateways share through the broker, where WEBHOOK_KEYS gives none: changing it.

Gateways read it when they start. While it is being changed posts are signed by what it was as well, so that receivers
have time to take the new secret.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from msgspec.structs import replace

from libs.common import subjects
from libs.common.bus import Bus, Fence
from libs.common.errors import Fenced, PinstreamError
from libs.common.messages import Salt, decode, encode

KEY_BYTES = 32
MOST_KEPT = 4  # a signature each in every post


class NoKeyYet(PinstreamError):
    """No gateway has run with this broker yet, so there is no key."""


async def change(bus: Bus) -> None:
    """A new key; the old ones go on signing. Raises NoKeyYet."""

    def changed(now: Salt) -> Salt:
        return Salt(value=secrets.token_hex(KEY_BYTES), before=(now.value, *now.before)[:MOST_KEPT])

    await _replace(bus, changed)


async def drop_old(bus: Bus) -> int:
    """No key but the newest signs from now on; how many there were beside it. Raises NoKeyYet."""
    return len((await _replace(bus, lambda now: replace(now, before=()))).before)


async def _replace(bus: Bus, changed: Callable[[Salt], Salt]) -> Salt:
    """What was there before."""
    stored = await bus.last(subjects.ACCESS, subjects.WEBHOOK_KEY)
    if stored is None:
        raise NoKeyYet
    before = decode(stored.body, Salt)
    try:
        fence = Fence(subjects.WEBHOOK_KEY, stored.sequence)
        await bus.publish(subjects.WEBHOOK_KEY, encode(changed(before)), fence=fence)
    except Fenced as error:
        raise PinstreamError("the key was changed by another at the same time; see what there is now") from error
    return before
