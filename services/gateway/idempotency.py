"""`Idempotency-Key`: the same key of the same caller is the same session, through any gateway and its restarts.

The id of such a session is derived from both, so that nothing has to be remembered but the session itself.
"""

from __future__ import annotations

import re
from hashlib import blake2b

import msgspec

from libs.common import subjects
from libs.common.errors import PinstreamError
from libs.common.messages import SearchRequest
from libs.common.session_log import SessionLog
from services.gateway.callers import Caller

HEADER = "Idempotency-Key"
MOST_CHARACTERS = 255
KEY = re.compile(rf"[\x21-\x7e]{{1,{MOST_CHARACTERS}}}")


class KeyReused(PinstreamError):
    """The key was used for another search; use a new one."""


class KeyEnding(PinstreamError):
    """The session of this key is no longer kept, and not yet gone as a whole; use a new key."""


def keyed_session(caller: Caller, key: str) -> str:
    """The id of the session that `caller` means by `key`."""
    return session_derived(caller, key, b"idempotency-key")


def session_derived(caller: Caller, key: str, person: bytes) -> str:
    """An id that is `caller`'s for this one key of its kind; who does not know the key cannot guess it."""
    owner = blake2b(caller.owner.encode(), digest_size=32).digest()
    return blake2b(key.encode(), digest_size=16, key=owner, person=person).hexdigest()


def same_search(one: SearchRequest, other: SearchRequest) -> bool:
    """Whether two requests ask for the same, whenever they do."""
    return _asked(one) == _asked(other)


def _asked(request: SearchRequest) -> SearchRequest:
    return msgspec.structs.replace(request, requested_at=0.0, deadline_s=0.0)


async def begun_before(session_log: SessionLog, session: str) -> bool:
    """Whether there is a session of that id.

    Raises KeyEnding where one was, and is not gone yet: a new one would be taken for it.
    """
    if await session_log.get(session, subjects.REQUEST) is not None:
        return True
    bus = session_log.bus
    left = await bus.last(subjects.RESULTS, subjects.records_of(session))
    fence = left or await bus.last(subjects.RAW, subjects.lease_end(session))
    if fence is None:
        return False
    if await session_log.get(session, subjects.REQUEST) is None:
        raise KeyEnding
    return True
