"""The gateway's part in the posting: it takes sessions from the queue, each of them one gateway at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from libs.common import metrics, subjects
from libs.common.delivery import Delivery
from libs.common.errors import SessionUnknown
from libs.common.handling import Handling
from libs.common.messages import Over, RequestRecord, Webhook, decode
from libs.common.pull import PullLoop
from libs.common.session_log import SessionLog
from libs.common.tasks import end
from services.gateway.following import SessionExpired
from services.gateway.webhook_settings import WebhookSettings
from services.gateway.webhooks.delivering import Delivering
from services.gateway.webhooks.ledger import keep, kept, take
from services.gateway.webhooks.posting import Poster, poster
from services.gateway.webhooks.queue import WebhookQueue
from services.gateway.webhooks.room import Room
from services.gateway.webhooks.signing import Secrets, secrets_of
from services.gateway.webhooks.target import NotATarget, Receivers, receivers_of, target_of
from services.gateway.webhooks.waking import Bells

log = structlog.get_logger()


class Postmen:
    """Handles the queue's messages. Use `postmen`."""

    def __init__(
        self,
        session_log: SessionLog,
        settings: WebhookSettings,
        receivers: Receivers,
        poster_: Poster,
        secrets: Secrets,
        stop: asyncio.Event,
    ) -> None:
        self.session_log, self.settings, self.receivers = session_log, settings, receivers
        self.poster, self.secrets, self.stop = poster_, secrets, stop
        self.room = Room(settings.webhook_posts, settings.webhook_posts_per_host, settings.webhook_posts_per_caller)
        self.bells = Bells()
        metrics.at_zero(metrics.webhooks_over, why=map(str, Over))
        metrics.at_zero(metrics.webhook_posts, outcome=("delivered", "failed", "refused", "gone"))

    async def handle(self, delivery: Delivery) -> None:
        """Posts what there is of a session, to its end, or until it fails."""
        session = decode(delivery.body, Webhook).session
        structlog.contextvars.bind_contextvars(session=session)
        before = await kept(self.session_log.bus, session)
        if before.callback.over is not None:
            return
        there = await self.session_log.get(session, subjects.REQUEST)
        request = there.message if there is not None else None
        if not isinstance(request, RequestRecord) or request.callback_url is None:
            await self._end(session, Over.EXPIRED, "its request is no longer in the log")
            return
        try:
            target = target_of(request.callback_url)
        except NotATarget as error:
            await self._end(session, Over.FAILED, f"callback_url {error}")
            return
        before = await take(self.session_log.bus, session, before)
        with self.bells.bell(session) as bell:
            try:
                await Delivering(
                    self.session_log,
                    session,
                    request,
                    target,
                    before,
                    bell,
                    self.stop,
                    poster=self.poster,
                    receivers=self.receivers,
                    room=self.room,
                    secrets=self.secrets,
                    settings=self.settings,
                ).run()
            except (SessionUnknown, SessionExpired):
                await self._end(session, Over.EXPIRED, "its log is no longer kept")

    async def gave_up(self, delivery: Delivery, why: str) -> None:
        """What cannot be handled is posted no more."""
        await self._end(subjects.session_in(delivery.subject), Over.FAILED, why)

    async def _end(self, session: str, over: Over, why: str) -> None:
        before = await kept(self.session_log.bus, session)
        if before.callback.over is not None:
            return
        await keep(self.session_log.bus, session, before, replace(before.callback, error=why, retry_at=None, over=over))
        metrics.webhooks_over.add(1, {"why": str(over)})
        log.warning(
            "nothing more of a session is posted",
            session=session,
            delivered=before.callback.delivered,
            why=str(over),
            error=why,
        )


class Webhooks(NamedTuple):
    """What the rest of the gateway has to do with. Use `posting`."""

    queue: WebhookQueue
    secrets: Secrets
    task: asyncio.Task[None] | None = None

    async def drain(self) -> None:
        """Returns when what was on its way has come to an end, and the rest was handed back."""
        if self.task is not None:
            await asyncio.wait({self.task})


@asynccontextmanager
async def posting(session_log: SessionLog, settings: WebhookSettings, stop: asyncio.Event) -> AsyncIterator[Webhooks]:
    """Posts what is due meanwhile, if it is on, to `stop`; what is on its way then has DRAIN_TIMEOUT_S."""
    queue = WebhookQueue(session_log.bus, settings.webhook_sessions_per_caller)
    secrets = await secrets_of(session_log.bus, settings.webhook_keys)
    if not settings.webhooks:
        yield Webhooks(queue, secrets)
        return
    receivers = receivers_of(settings)
    async with poster(settings, receivers) as client:
        men = Postmen(session_log, settings, receivers, client, secrets, stop)
        handling = Handling(session_log.bus, subjects.POSTMEN, subjects.WEBHOOK_TEMPLATE, men.handle, men.gave_up)
        loop = PullLoop(session_log.bus, subjects.WEBHOOKS, subjects.POSTMEN, handling, slots=settings.webhook_sessions)
        task = asyncio.create_task(loop.run(stop, settings.drain_timeout_s), name="postmen")
        with men.bells.hung(session_log):
            try:
                yield Webhooks(queue, secrets, task)
            finally:
                await end(task)
