"""Webhooks: every video in order, then `completed`, at least once, whatever the receiver does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace
from standardwebhooks import WebhookVerificationError

from libs.common import subjects
from libs.common.frames import InitiateParameters
from libs.common.handling import Superseded
from libs.common.messages import Callback, Over, Reason
from libs.common.session_log import SessionLog
from services.gateway.callers import ANONYMOUS, Caller
from services.gateway.limits import Limited
from services.gateway.resources import CallbackStatus
from services.gateway.sessions import Begun, Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.webhooks.ledger import Kept, keep, kept, take
from services.gateway.webhooks.postmen import posting
from services.gateway.webhooks.status import status_of
from tests.integration.gateway_process import finish, give
from tests.integration.receiver import CUT, DROP, ENDLESS, GONE, HANG, Receiver, receiver, status
from tests.wait import wait_for, wait_until


class Gateway(NamedTuple):
    """What of a gateway has to do with webhooks."""

    log: SessionLog
    sessions: Sessions
    stop: asyncio.Event

    async def begin(self, url: str, caller: Caller = ANONYMOUS) -> Begun:
        wanted = InitiateParameters(search_query="ceramic glaze", result_limit=50, callback_url=url)
        return await self.sessions.begin(wanted, caller=caller)

    async def status(self, session: str) -> CallbackStatus:
        record = await self.log.get(session, subjects.REQUEST)
        assert record is not None
        found = await status_of(self.log.bus, session, record.message)  # type: ignore[arg-type]
        assert found is not None
        return found

    async def state(self, session: str, state: str) -> CallbackStatus:
        """Returns when it is so."""

        async def is_so() -> bool:
            return (await self.status(session)).state == state

        await wait_for(is_so, f"the callback is {state}")
        return await self.status(session)


@asynccontextmanager
async def gateway(log: SessionLog, **settings: Any) -> AsyncIterator[Gateway]:
    given = {"webhook_private_hosts": ("127.0.0.1",), "webhook_retry_s": 0.05, "webhook_interval_s": 0.1, **settings}
    stop = asyncio.Event()
    async with posting(log, GatewaySettings(**given), stop) as webhooks:
        yield Gateway(log, Sessions(log, 600.0, webhooks=webhooks.queue, secrets=webhooks.secrets), stop)
        stop.set()
        await webhooks.drain()


async def test_what_is_found_is_posted_at_once_in_order_and_signed(log: SessionLog) -> None:
    async with receiver() as there, gateway(log, webhook_interval_s=1.0) as here:
        begun = await here.begin(there.url)
        assert begun.webhook_secret is not None
        sequences = [await give(log, begun.session, 0)]
        given_at = time.monotonic()
        await wait_until(lambda: there.taken, "the first video is posted")
        print(f"posted {there.taken[0].at - given_at:.3f} s after it was found")
        assert there.taken[0].at - given_at < 0.5
        sequences += [await give(log, begun.session, n) for n in range(1, 6)]
        await wait_until(lambda: len(there.sequences) == 6, "all are posted")
        ended = await finish(log, begun.session, 6)
        await wait_until(lambda: there.completed, "the end is posted")
        assert there.sequences == sequences
        kinds = [post.verified(begun.webhook_secret)["type"] for post in there.posts]
        assert kinds[-1] == "completed" and set(kinds[:-1]) == {"video"}
        assert 2 <= len(kinds) - 1 <= 4, "later ones come in batches"
        first, *_, last = there.posts
        assert first.event["data"]["session_id"] == begun.session
        assert first.event["data"]["videos"][0]["video"]["url"] == "https://v1.pinimg.com/0.mp4"
        assert (last.event["data"]["sequence"], last.event["data"]["reason"]) == (ended, "limit")
        assert last.event["data"]["summary"]["found"] == 6
        assert first.path == "/hooks?who=me"
        assert first.headers["content-type"] == "application/json"
        with pytest.raises(WebhookVerificationError):
            first.verified(here.sessions.webhook_secrets.shown("somebody"))  # type: ignore[union-attr]
        done = await here.state(begun.session, "delivered")
        assert (done.delivered, done.failures, done.url) == (sequences[-1], 0, there.url)


async def test_one_with_a_name_has_one_secret_for_all_its_sessions(log: SessionLog) -> None:
    async with receiver() as there, gateway(log, webhook_keys=("n" * 32, "o" * 32)) as here:
        begun = await here.begin(there.url, Caller(owner="team-a"))
        assert begun.webhook_secret is None
        await finish(log, begun.session, 0, Reason.EXHAUSTED)
        await wait_until(lambda: there.completed, "the end is posted")
        assert here.sessions.webhook_secrets is not None
        secret = here.sessions.webhook_secrets.shown("team-a")
        assert there.posts[0].verified(secret)["data"]["session_id"] == begun.session
        assert len(there.posts[0].headers["webhook-signature"].split(" ")) == 2, "by the older key, too"


async def test_a_receiver_that_fails_in_every_way_has_all_in_the_end_each_once(log: SessionLog) -> None:
    elsewhere = Receiver()
    async with receiver() as trap:
        plan = [
            status(500),
            DROP,
            CUT,
            status(307, f"Location: {trap.url}"),
            status(503, "Retry-After: 1"),
            HANG,
            status(404),
        ]
        async with receiver(plan) as there, gateway(log, webhook_timeout_s=0.5, webhook_retry_s=0.02) as here:
            begun = await here.begin(there.url)
            sequences = [await give(log, begun.session, n) for n in range(3)]
            await wait_until(lambda: len(there.posts) >= 2, "it is tried again")
            sequences += [await give(log, begun.session, n) for n in range(3, 6)]
            await finish(log, begun.session, 6)
            await wait_until(lambda: there.completed, "the end is posted", 30)
            assert there.sequences == sequences
            tries = there.posts[: len(plan) + 1]
            assert len({(post.id, post.body) for post in tries}) == 1, "what was announced is posted as it was"
            assert len({post.headers["webhook-timestamp"] for post in tries}) > 1
            for post in there.posts:
                post.verified(begun.webhook_secret or "")
            assert tries[5].at - tries[4].at >= 1.0, "Retry-After is heeded"
            assert (await here.state(begun.session, "delivered")).attempts == len(there.posts)
        assert (trap.connections, elsewhere.connections) == (0, 0)


async def test_an_answer_without_end_is_not_read_to_its_end(log: SessionLog) -> None:
    async with receiver([ENDLESS]) as there, gateway(log) as here:
        begun = await here.begin(there.url)
        await finish(log, begun.session, 0)
        assert (await here.state(begun.session, "delivered")).attempts == 1


async def test_who_answers_gone_is_left_alone(log: SessionLog) -> None:
    async with receiver([GONE]) as there, gateway(log) as here:
        begun = await here.begin(there.url)
        await give(log, begun.session, 0)
        gone = await here.state(begun.session, "gone")
        assert (gone.status, gone.delivered) == (410, 0)
        await finish(log, begun.session, 1)
        other = await here.begin(there.url)
        await finish(log, other.session, 0)
        await wait_until(lambda: there.completed, "another session is posted all the same")
        assert [post.event["data"]["session_id"] for post in there.posts] == [begun.session, other.session]


async def test_who_fails_for_too_long_is_given_up_and_it_shows(
    log: SessionLog, capsys: pytest.CaptureFixture[str]
) -> None:
    async with receiver([status(500)] * 1000) as there, gateway(log, webhook_give_up_s=0.3) as here:
        begun = await here.begin(there.url)
        sequence = await give(log, begun.session, 0)
        given_up = await here.state(begun.session, "given_up")
        assert (given_up.status, given_up.delivered, given_up.retry_at) == (500, 0, None)
        assert given_up.failures >= 2 and given_up.error == "the answer was 500"
        tries = len(there.posts)
        await finish(log, begun.session, 1)
        assert tries == len(there.posts) == given_up.attempts
        assert sequence > given_up.delivered, "what is missing can be read after it"
        said = capsys.readouterr().out
        assert f"receiver=127.0.0.1:{there.port}" in said and "who=me" not in said


async def test_a_cancelled_session_is_completed(log: SessionLog) -> None:
    async with receiver() as there, gateway(log) as here:
        begun = await here.begin(there.url)
        await here.sessions.cancel(begun.session)
        await wait_until(lambda: there.completed, "the end is posted")
        assert [event["data"]["reason"] for event in there.events] == ["cancelled"]


async def test_a_session_whose_log_is_gone_ends_with_a_word(log: SessionLog) -> None:
    async with receiver([status(500)] * 100) as there, gateway(log) as here:
        begun = await here.begin(there.url)
        await give(log, begun.session, 0)
        await wait_until(lambda: there.posts, "it is tried")
        await log.bus.purge(subjects.RESULTS, subjects.records_of(begun.session))

        async def over() -> bool:
            return (await kept(log.bus, begun.session)).callback.over is Over.EXPIRED

        await wait_for(over, "it is expired")


async def test_a_slow_host_keeps_nobody_else_waiting_and_is_not_overrun(log: SessionLog) -> None:
    async with (
        receiver() as slow,
        receiver() as quick,
        gateway(log, webhook_posts=4, webhook_posts_per_host=2) as here,
    ):
        slow.delay_s = 0.4
        waiting = [await here.begin(slow.url) for _ in range(6)]
        for begun in waiting:
            await finish(log, begun.session, 0)
        await wait_until(lambda: slow.at_once == 2, "the slow one is busy")
        started = time.monotonic()
        begun = await here.begin(quick.url)
        await finish(log, begun.session, 0)
        await wait_until(lambda: quick.completed, "the quick one has its own")
        assert time.monotonic() - started < 0.4
        assert slow.most_at_once == 2
        await wait_until(lambda: len(slow.events) == 6, "the slow one has its own")


async def test_a_caller_may_have_so_many_to_be_posted_and_no_more(log: SessionLog) -> None:
    caller = Caller(owner="insatiable")
    async with receiver([HANG] * 2) as there, gateway(log, webhook_sessions_per_caller=2) as here:
        for _ in range(2):
            begun = await here.begin(there.url, caller)
            await finish(log, begun.session, 0)
        with pytest.raises(Limited, match="still to be posted"):
            await here.begin(there.url, caller)
        await here.begin(there.url, Caller(owner="modest"))
        there.released.set()

        async def room() -> bool:
            return not (await log.bus.subjects_under(subjects.WEBHOOKS, subjects.webhooks_of("insatiable", "")))[0]

        await wait_for(room, "they are posted")
        await here.begin(there.url, caller)


async def test_a_gateway_that_stood_still_writes_nothing_more(log: SessionLog, session: str) -> None:
    before = await take(log.bus, session, Kept(Callback(), 0))
    mine = await keep(log.bus, session, before, replace(before.callback, through=7))
    theirs = await take(log.bus, session, mine)
    for late in (replace(mine.callback, delivered=7), mine.callback):
        with pytest.raises(Superseded):
            await keep(log.bus, session, mine, late)
    with pytest.raises(Superseded):
        await take(log.bus, session, mine)
    assert await kept(log.bus, session) == theirs
    again = await keep(log.bus, session, mine, theirs.callback)  # one's own, whose acknowledgement was lost
    assert again == theirs
