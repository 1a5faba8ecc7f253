"""The posting of one session: from where the last gateway left off to `completed`, in the log's order.

A batch is announced in the ledger before it is posted and noted after it was taken, so whoever goes on posts it again
as it was, under the same id. What fails is handed back to the queue, to be tried again later by any gateway.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack, aclosing
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace
from opentelemetry import trace
from opentelemetry.trace import Link

from libs.common import metrics
from libs.common.bus import Bus
from libs.common.frames import VideoFrame
from libs.common.handling import Later
from libs.common.messages import Callback, Over, RequestRecord
from libs.common.session_log import SessionLog
from libs.common.tasks import end
from libs.common.telemetry import extract
from services.gateway.following import Following
from services.gateway.resources import FoundVideo
from services.gateway.webhook_settings import WebhookSettings
from services.gateway.webhooks.ledger import Kept, keep
from services.gateway.webhooks.payloads import VideoBatch, VideoEvent, completed_event, moment
from services.gateway.webhooks.posting import Answer, Post, Poster
from services.gateway.webhooks.room import Room
from services.gateway.webhooks.signing import Secrets
from services.gateway.webhooks.target import Receivers, Target
from services.gateway.webhooks.waking import Bell

MOST_BATCH_BYTES = 512 * 1024  # half of what servers commonly take; a batch ends with the video that goes past it
RETRY_MOST_S = 300.0
MOST_LINKS = 32

_encoder = msgspec.json.Encoder()

log = structlog.get_logger()


def backoff(first_s: float, failures: int) -> float:
    """Seconds to wait after so many failures in a row: twice as long each time, jittered."""
    most = min(RETRY_MOST_S, first_s * 2.0 ** min(failures - 1, 32))
    return random.uniform(most / 2, most)


class Delivering:
    """Use `run`. `stop` is set when this gateway is about to end."""

    def __init__(
        self,
        session_log: SessionLog,
        session: str,
        request: RequestRecord,
        target: Target,
        before: Kept,
        bell: Bell,
        stop: asyncio.Event,
        *,
        poster: Poster,
        receivers: Receivers,
        room: Room,
        secrets: Secrets,
        settings: WebhookSettings,
    ) -> None:
        self.bus: Bus = session_log.bus
        self.session, self.request, self.target = session, request, target
        self.kept = before
        self.bell, self.stop = bell, stop
        self.poster, self.receivers, self.room = poster, receivers, room
        self.secrets, self.settings = secrets, settings
        self.following = Following(session_log, session, before.callback.delivered)

    async def run(self) -> None:
        """Until all is posted or given up. Raises Later where it is to be gone on with, by whomever.

        Raises SessionUnknown or SessionExpired where the log is gone.
        """
        while self.kept.callback.over is None:
            self.bell.clear()
            started = time.monotonic()
            full, posted = False, False
            async with AsyncExitStack() as held:
                caller = self.request.owner or self.request.place
                await self._while_running(held.enter_async_context(self.room.place(self.target.place, caller)))
                post, through = await self._next()
                if post is not None:
                    posted, full = True, through > 0 and self._full
                    await self._post(post, through)
            if self.kept.callback.over is not None or full or self.following.state.complete:
                continue
            if posted:
                await self._while_running(asyncio.sleep(started + self.settings.webhook_interval_s - time.monotonic()))
            else:
                await self._while_running(self.bell.wait())

    async def _while_running(self, what: Coroutine[Any, Any, None]) -> None:
        """Returns when `what` is done, unless this gateway is about to end."""
        waiting = asyncio.create_task(what, name=f"webhooks of {self.session}")
        stopping = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(waiting, stopping)
        if self.stop.is_set():
            raise Later(0)

    async def _next(self) -> tuple[Post | None, int]:
        """What is to be posted now, if anything is, and the sequence that it ends at, 0 for the end of the session.

        A batch that was announced before ends where it ended then.
        """
        before = self.kept.callback
        upto = before.through if before.through > before.delivered else None
        videos: list[FoundVideo] = []
        links: list[Link] = []
        size, at = 0, 0.0
        self._full = False
        async with aclosing(self.following.stored()) as steps:
            async for frame, headers, *_ in steps:
                if not isinstance(frame, VideoFrame):
                    continue
                found = FoundVideo(sequence=frame.sequence, video=frame.video)
                videos.append(found)
                size, at = size + len(_encoder.encode(found)), self.following.state.stored_at
                context = trace.get_current_span(extract(headers)).get_span_context()
                if context.is_valid and context.trace_flags.sampled and len(links) < MOST_LINKS:
                    links.append(Link(context))
                self._full = len(videos) >= self.settings.webhook_batch or size >= MOST_BATCH_BYTES
                if frame.sequence >= upto if upto is not None else self._full:
                    break
        if videos:
            through = videos[-1].sequence
            event = VideoEvent(timestamp=moment(at), data=VideoBatch(session_id=self.session, videos=videos))
            return Post(f"{self.session}-{through}", "video", _encoder.encode(event), links), through
        if self.following.state.complete:
            ended = completed_event(self.following.completed, self.following.state.completed_time)
            return Post(f"{self.session}-completed", "completed", _encoder.encode(ended)), 0
        return None, 0

    async def _post(self, post: Post, through: int) -> None:
        if through > self.kept.callback.through:
            await self._keep(replace(self.kept.callback, through=through))
        answer = await self._answer(post)
        after = replace(
            self.kept.callback,
            attempts=self.kept.callback.attempts + 1,
            tried_at=time.time(),
            status=answer.status,
            error=answer.error,
        )
        match answer.outcome:
            case "delivered":
                done = replace(after, failures=0, failing_since=None, retry_at=None, delivered=through or after.through)
                await self._keep(done if through else replace(done, over=Over.DELIVERED))
            case "gone":
                await self._keep(replace(after, retry_at=None, over=Over.GONE))
            case _:
                await self._failed(after, answer)
        if self.kept.callback.over is not None:
            self._ended(self.kept.callback.over, answer)

    async def _answer(self, post: Post) -> Answer:
        amiss = self.receivers.amiss(self.request.callback_url or "")
        if amiss is not None:  # by the settings of this gateway, which may be other than those of the one that took it
            return Answer("refused", error=f"callback_url {amiss}")
        timestamp, owner = int(time.time()), self.request.owner
        signed = {
            "webhook-id": post.id_,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": self.secrets.signature(owner, self.session, post.id_, timestamp, post.body),
        }
        return await self.poster.post(self.target, post, signed)

    async def _failed(self, after: Callback, answer: Answer) -> None:
        now = time.time()
        since = after.failing_since or now
        failures = after.failures + 1
        failed = replace(after, failures=failures, failing_since=since, retry_at=None)
        if now - since >= self.settings.webhook_give_up_s:
            await self._keep(replace(failed, over=Over.GIVEN_UP))
            return
        delay_s = max(backoff(self.settings.webhook_retry_s, failures), answer.wait_s)
        log.info(
            "a receiver of webhooks did not take a post",
            session=self.session,
            receiver=self.target.place,
            failures=failures,
            error=answer.error,
            again_s=round(delay_s, 1),
        )
        await self._keep(replace(failed, retry_at=now + delay_s))
        raise Later(delay_s)

    async def _keep(self, callback: Callback) -> None:
        self.kept = await keep(self.bus, self.session, self.kept, callback)

    def _ended(self, over: Over, answer: Answer) -> None:
        metrics.webhooks_over.add(1, {"why": str(over)})
        told = {"session": self.session, "receiver": self.target.place, "delivered": self.kept.callback.delivered}
        if over is Over.DELIVERED:
            log.info("the webhooks of a session are delivered", **told)
        else:
            log.warning("nothing more of a session is posted", **told, why=str(over), error=answer.error)
