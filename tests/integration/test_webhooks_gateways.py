"""Gateways that stand still, die and stop with webhooks on their way: the receiver has all, in order."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2

from libs.common.session_log import SessionLog
from tests.integration.gateway_process import GatewayProcess, finish, give_many
from tests.integration.receiver import Receiver, receiver
from tests.integration.rest_gateway import WANTED
from tests.wait import wait_until

VIDEOS, BATCH = 80, 4


async def posting(gateways: list[GatewayProcess], there: Receiver) -> GatewayProcess:
    """The gateway that has a post to `there` on its way now."""
    await wait_until(lambda: there.at_once, "a post is on its way")
    return next(one for one in gateways if there.port in one.clients)


async def goes_on(there: Receiver, what: str) -> float:
    """Seconds until another post comes."""
    before, since = len(there.posts), time.monotonic()
    await wait_until(lambda: len(there.posts) > before, what)
    return there.posts[before].at - since


async def test_the_receiver_has_all_each_once_whatever_becomes_of_the_gateways(
    nats_url: str, log: SessionLog, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"webhook_private_hosts": "127.0.0.1", "webhook_batch": BATCH, "drain_notice_s": 0.1}
    async with receiver() as there, AsyncExitStack() as running:
        there.delay_s = 0.2
        every = [GatewayProcess(nats_url, tmp_path, **settings) for _ in range(3)]
        await asyncio.gather(*(running.enter_async_context(one) for one in every))
        async with httpx2.AsyncClient(base_url=f"http://{every[0].address}", trust_env=False) as client:
            created = (await client.post("/v1/sessions", json={**WANTED, "callback_url": there.url})).json()
        session, secret = created["session_id"], created["webhook_secret"]
        sequences = await give_many(log, session, range(VIDEOS), 0)

        frozen = await posting(every, there)
        assert frozen.process is not None
        frozen.process.send_signal(signal.SIGSTOP)
        await wait_until(lambda: not there.at_once, "the post is answered")
        taken_over_s = [await goes_on(there, "another goes on for the one that stands still")]
        frozen.process.send_signal(signal.SIGCONT)
        await wait_until(lambda: '"superseded"' in frozen.said, "it finds that it was replaced")

        killed = await posting([one for one in every if one is not frozen], there)
        killed.kill()
        await killed.ended()
        await wait_until(lambda: not there.at_once, "the post is answered")
        taken_over_s.append(await goes_on(there, "another goes on for the one that was killed"))

        stopped = await posting([one for one in every if one is not killed], there)
        on_its_way = there.posts[-1].id
        known = len(there.posts)
        stopped.terminate()
        told_at = time.monotonic()
        handed_over_s = await goes_on(there, "another goes on for the one that was stopped")
        assert handed_over_s < 2
        assert await stopped.ended() == 0
        assert time.monotonic() - told_at < 6, "it has not waited for its time to drain"
        assert on_its_way in {post.id for post in there.taken}, "it came to its end"
        assert on_its_way not in {post.id for post in there.posts[known:]}, "a stop repeats nothing"

        there.delay_s = 0.0
        ended = await finish(log, session, VIDEOS)
        await wait_until(lambda: there.completed, "the end is posted")
        ids = [post.id for post in there.posts]
        repeats = len(ids) - len(set(ids))
        print(f"taken over in {taken_over_s} s, handed over in {handed_over_s:.2f} s, {repeats} repeated")
        assert there.sequences == sequences, "every video, in order, once what is known is dropped"
        assert (ids[-1], there.events[-1]["data"]["sequence"]) == (f"{session}-completed", ended)
        assert repeats <= 2, "no more than what was on its way"
        assert len({(post.id, post.body) for post in there.posts}) == len(set(ids)), "as it was, under one id"
        assert len({post.headers["traceparent"].split("-")[1] for post in there.posts}) == 1
        for post in there.posts:
            post.verified(secret)
        said = "".join(one.said for one in every)
        assert secret not in said and "who=me" not in said, "no secret, and of a receiver no more than its host"
