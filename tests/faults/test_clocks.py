"""Services whose clocks differ by ten minutes either way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from libs.client.local import LocalOptions, LocalStack
from libs.common import subjects
from libs.common.bus import connect
from libs.common.messages import Reason, RequestRecord
from libs.common.session_log import SessionLog
from libs.common.settings import Settings
from tests.fake_pinterest import RunningSite
from tests.faults.watch import Watch
from tests.patient import MOST_PATIENT

SKEW_S = 600
DEADLINE_S = 14.0
LATE_S = 12.0  # the deadline's grace of 5 s, and what a busy machine adds


def skewed(by_s: int) -> dict[str, str]:
    """The environment of a process whose clock is wrong by so much."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        pytest.skip("libfaketime is not installed; run scripts/install")
    return {"LD_PRELOAD": str(found[0]), "FAKETIME": f"{by_s:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@pytest.fixture
async def stack(site: RunningSite) -> AsyncIterator[LocalStack]:
    """The whole system, three of whose services have the wrong time."""
    options = LocalOptions(
        site_url=site.origin,
        media_hosts=urlsplit(site.origin).netloc,
        environ={
            **MOST_PATIENT,
            "SESSION_DEADLINE_S": str(DEADLINE_S),
        },
        environ_of={"gateway": skewed(SKEW_S), "transformer": skewed(SKEW_S), "dedup": skewed(-SKEW_S)},
    )
    async with LocalStack(options) as stack:
        yield stack


async def test_clocks_ten_minutes_apart_change_neither_results_nor_deadlines(stack: LocalStack) -> None:
    short = Watch(stack.ws_url, "bowls pins:60 seed:clocks")
    long = Watch(stack.ws_url, "bowls pins:2000 size:10 seed:deadline latency:400")
    await short.exact()
    async with asyncio.timeout(DEADLINE_S + LATE_S):
        await long.task
    assert long.search.completed is not None
    assert long.search.completed.reason is Reason.DEADLINE
    elapsed_s = long.search.completed.summary.elapsed_s
    assert elapsed_s is not None
    assert DEADLINE_S - 0.5 <= elapsed_s <= DEADLINE_S + LATE_S
    await long.still()
    assert abs(await requested_at(stack, long.session) - time.time() - SKEW_S) < 100, "the gateway's clock was right"


async def requested_at(stack: LocalStack, session: str) -> float:
    """When the gateway believes that a session was asked for."""
    async with connect(Settings(nats_url=stack.nats_url), "test") as bus:
        record = await SessionLog(bus).get(session, subjects.REQUEST)
    assert record is not None
    assert isinstance(record.message, RequestRecord)
    return record.message.request.requested_at
