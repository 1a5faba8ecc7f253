"""The whole system as processes of their own, two of each service but the gateway, for tests that share it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from libs.client.local import LocalOptions, LocalStack
from libs.common import subjects
from libs.common.bus import Bus
from tests.patient import MOST_PATIENT

ACK_WAIT_S = 4.0
DRAIN_S = 1.0


@asynccontextmanager
async def shared_stack(origin: str, **options: Any) -> AsyncIterator[LocalStack]:
    """A stack whose messages wait for ACK_WAIT_S where their worker has died, and whose services drain for DRAIN_S."""
    environ = {**MOST_PATIENT, "DRAIN_TIMEOUT_S": str(DRAIN_S), **options.pop("environ", {})}
    wanted: dict[str, Any] = {"crawlers": 2, "transformers": 2, "dedups": 2, **options}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("libs.common.streams.ACK_WAIT_S", ACK_WAIT_S)
        wanted |= {"site_url": origin, "media_hosts": urlsplit(origin).netloc}
        async with LocalStack(LocalOptions(environ=environ, **wanted)) as stack:
            yield stack


async def leases(bus: Bus, session: str) -> int:
    """How many attempts at a session's crawl have been made, once the end is told apart."""
    found, _ = await bus.subjects_under(subjects.RAW, subjects.leases_of(session))
    return len(found - {subjects.lease_end(session)})


async def left(bus: Bus, session: str) -> set[str]:
    """The messages of a session that somebody may still work on."""
    found: set[str] = set()
    for stream, pattern in (
        (subjects.SEARCHES, subjects.search(session)),
        (subjects.RAW, subjects.raw_of(session)),
        (subjects.DIRECT, subjects.direct_of(session)),
    ):
        found |= (await bus.subjects_under(stream, pattern))[0]
    return found


async def last_sequence(bus: Bus, session: str) -> int:
    """The place of a session's newest record."""
    newest = await bus.last(subjects.RESULTS, subjects.records_of(session))
    return 0 if newest is None else newest.sequence
