"""Gateways that stop and die with webhooks on their way: the next one goes on, and the receiver has all, in order."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2

from libs.common.session_log import SessionLog
from tests.integration.gateway_process import GatewayProcess, finish, give_many
from tests.integration.receiver import Receiver, receiver
from tests.integration.rest_gateway import WANTED
from tests.wait import wait_until

VIDEOS, BATCH = 60, 4


def holder(gateways: list[GatewayProcess], there: Receiver) -> GatewayProcess:
    """The gateway that posts to `there` now."""
    return next(one for one in gateways if there.port in one.clients)


async def test_one_stops_and_one_is_killed_and_the_receiver_has_all_each_once(
    nats_url: str, log: SessionLog, tmp_path: Path
) -> None:
    settings = {"webhook_private_hosts": "127.0.0.1", "webhook_batch": BATCH, "drain_notice_s": 0.1}
    async with receiver() as there, AsyncExitStack() as running:
        there.delay_s = 0.2
        gateways = [GatewayProcess(nats_url, tmp_path, **settings) for _ in range(3)]
        await asyncio.gather(*(running.enter_async_context(one) for one in gateways))
        async with httpx2.AsyncClient(base_url=f"http://{gateways[0].address}", trust_env=False) as client:
            answer = await client.post("/v1/sessions", json={**WANTED, "callback_url": there.url})
            created = answer.json()
            secret = created["webhook_secret"]
            sequences = await give_many(log, created["session_id"], range(VIDEOS), 0)
            await wait_until(lambda: len(there.taken) >= 3, "some are posted")

        stopped = holder(gateways, there)
        before = len(there.posts)
        stopped.terminate()
        assert await stopped.ended() == 0
        gateways.remove(stopped)
        gone_at = time.monotonic()
        await wait_until(lambda: len(there.posts) >= before + 3, "another goes on")
        handed_s = max(0.0, there.posts[before + 2].at - gone_at)
        assert handed_s < 3, "what is handed back is taken at once"
        assert len({post.id for post in there.posts}) == len(there.posts), "a stop repeats nothing"

        await wait_until(lambda: there.at_once == 1, "a post is on its way")
        killed = holder(gateways, there)
        at = len(there.posts)
        killed.kill()
        await killed.ended()
        gateways.remove(killed)
        killed_at = time.monotonic()
        await wait_until(lambda: len(there.posts) > at, "another goes on")
        taken_over_s = there.posts[at].at - killed_at
        there.delay_s = 0.0
        ended = await finish(log, created["session_id"], VIDEOS)
        await wait_until(lambda: there.completed, "the end is posted")

        repeats = len(there.taken) - len({post.id for post in there.taken})
        print(f"handed over in {handed_s:.2f} s, taken over in {taken_over_s:.2f} s, {repeats} repeated")
        assert there.sequences == sequences, "every video, in order, once what is known is dropped"
        assert there.events[-1]["data"]["sequence"] == ended
        assert [event["type"] for event in there.events].count("completed") == 1
        assert repeats <= 1
        for post in there.posts:
            post.verified(secret)
            assert post.headers["traceparent"].split("-")[1] == there.posts[0].headers["traceparent"].split("-")[1]
        assert len({(post.id, post.body) for post in there.posts}) == len({post.id for post in there.posts})
        said = "".join(one.said for one in (stopped, killed, *gateways))
        assert secret not in said and "who=me" not in said, "no secret, no query of a receiver's, in any log"
