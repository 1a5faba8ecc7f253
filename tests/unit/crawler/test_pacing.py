from __future__ import annotations

import time

import pytest

from libs.common.lane import Lane
from libs.common.messages import Reason
from libs.common.pace import Rate
from services.crawler import pacing
from services.crawler.failure import Refused
from services.crawler.pacing import Pacer, Patience

Reports = list[tuple[str, str | None, float | None]]


def patience(reports: Reports) -> Patience:
    async def report(state: str, waiting_for: str | None, waiting_until: float | None) -> None:
        reports.append((state, waiting_for, waiting_until))

    return Patience(Pacer(Lane(Rate(1000, pacing.BURST))), report)


async def nothing(state: str, waiting_for: str | None, waiting_until: float | None) -> None:
    pass


class Site:
    """Refuses so many times, then answers."""

    def __init__(self, refusal: Refused, times: int) -> None:
        self.refusal, self.left, self.calls = refusal, times, 0

    async def __call__(self) -> str:
        self.calls += 1
        self.left -= 1
        if self.left >= 0:
            raise self.refusal
        return "answer"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(pacing, "RATE_LIMIT_DELAY_S", 0.001)


async def test_a_burst_passes_at_once_and_then_the_pace_holds() -> None:
    pacer = Pacer(Lane(Rate(50, pacing.BURST)))
    started = time.monotonic()
    for _ in range(pacing.BURST):
        await pacer.turn()
    assert time.monotonic() - started < 0.02
    for _ in range(5):
        await pacer.turn()
    assert time.monotonic() - started > 0.08


async def test_a_hold_stops_every_request() -> None:
    pacer = Pacer(Lane(Rate(1000, pacing.BURST)))
    await pacer.lane.hold(0.05)
    with pytest.raises(Refused) as told:
        await pacer.turn()
    assert told.value.held and told.value.reason is Reason.RATE_LIMITED
    started = time.monotonic()
    await Patience(pacer, nothing).turn()
    assert time.monotonic() - started >= 0.04


async def test_what_passes_is_waited_out_and_told_of() -> None:
    reports: Reports = []
    site = Site(Refused(Reason.UNREACHABLE, "HTTP 500", transient=True), 3)
    assert await patience(reports).of(site) == "answer"
    assert site.calls == 4
    waiting = [told for told in reports if told[0] == "waiting"]
    assert len(waiting) == 3
    assert waiting[0][1] == "unreachable" and waiting[0][2] is not None
    assert reports[-1] == ("crawling", None, None)


async def test_what_does_not_pass_ends_after_so_many_attempts() -> None:
    site = Site(Refused(Reason.UNREACHABLE, "HTTP 500", transient=True), 1000)
    with pytest.raises(Refused):
        await patience([]).of(site)
    assert site.calls == pacing.ATTEMPTS


async def test_what_is_final_is_not_tried_again() -> None:
    site = Site(Refused(Reason.BLOCKED, "HTTP 403"), 1000)
    with pytest.raises(Refused):
        await patience([]).of(site)
    assert site.calls == 1


async def test_what_the_site_asks_to_wait_is_waited_to_the_full_and_no_longer_than_the_budget() -> None:
    started = time.monotonic()
    asked = Refused(Reason.RATE_LIMITED, "HTTP 429", transient=True, retry_after_s=0.2)
    assert await patience([]).of(Site(asked, 1)) == "answer"
    assert time.monotonic() - started >= 0.2
    site = Site(Refused(Reason.RATE_LIMITED, "HTTP 429", transient=True, retry_after_s=61), 1)
    with pytest.raises(Refused):
        await patience([]).of(site)
    assert site.calls == 1
