"""Sessions as the gateway's clients know them: begun, cancelled, followed. Holds no state of its own."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import NamedTuple

import structlog

from libs.common import metrics, subjects
from libs.common.closing import Ending, close, purge
from libs.common.errors import AlreadyExists, BrokerUnavailable, PublishRefused, SessionUnknown
from libs.common.frames import CloseCode, ErrorCode, InitiateParameters
from libs.common.messages import (
    CancelRecord,
    CrawledRecord,
    OwnedRecord,
    Reason,
    RequestRecord,
    SearchRequest,
    encode,
)
from libs.common.session_log import SessionLog
from libs.common.tally import Tally
from libs.common.telemetry import inject, sent
from services.gateway.callers import ANONYMOUS, Caller, TokenRefused
from services.gateway.filters import filters_of
from services.gateway.first_videos import FirstVideos
from services.gateway.following import CHECK_S, Following, may_follow
from services.gateway.idempotency import KeyEnding, KeyReused, begun_before, same_search
from services.gateway.limits import Limited, Limits
from services.gateway.webhooks.queue import WebhookQueue
from services.gateway.webhooks.signing import Secrets

REFUSALS = (Limited, TokenRefused, KeyReused, KeyEnding)  # of what a client asks for; nothing has failed
# what a gateway is looked at for: their rates begin at 0
CLOSED_OFTEN = (CloseCode.SLOW_CONSUMER, CloseCode.DRAINING, CloseCode.RATE_LIMITED, CloseCode.TOKEN_REFUSED)
REFUSED_OFTEN = (ErrorCode.RATE_LIMITED, ErrorCode.TOO_MANY_SESSIONS, ErrorCode.UNAVAILABLE, "unauthorized")
PATIENCE_S = 5.0  # a client waits for the answer; after this it is told to come back

log = structlog.get_logger()


class Begun(NamedTuple):
    """A session that exists; `sequence` is its request's place in the log, `again`: it was there before.

    `webhook_secret` is what its webhooks are signed with, if it has some and its caller no name.
    """

    session: str
    sequence: int
    again: bool = False
    webhook_secret: str | None = None


@asynccontextmanager
async def answered() -> AsyncIterator[None]:
    """What a client waits for: raises BrokerUnavailable after PATIENCE_S."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield
    except TimeoutError as error:
        raise BrokerUnavailable(f"the broker did not answer within {PATIENCE_S:g} s") from error


class Sessions:
    """Begins, cancels and follows sessions."""

    def __init__(
        self,
        session_log: SessionLog,
        deadline_s: float,
        check_s: float = CHECK_S,
        limits: Limits | None = None,
        *,
        webhooks: WebhookQueue | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        self.limits = limits
        self.webhooks = webhooks or WebhookQueue(session_log.bus)
        self.webhook_secrets = secrets
        self.session_log = session_log
        self.first_videos = FirstVideos(session_log)
        metrics.at_zero(metrics.sessions_begun, source=("search", "url"))
        metrics.at_zero(metrics.open_sockets, protocol=("websocket", "events", "firebase"))
        metrics.at_zero(metrics.gateway_closes, code=map(str, CLOSED_OFTEN))
        metrics.at_zero(metrics.gateway_refusals, protocol=("websocket", "rest"), code=REFUSED_OFTEN)
        self.deadline_s = deadline_s
        self.check_s = check_s
        self.tally = Tally()  # of those begun

    async def begin(self, wanted: InitiateParameters, *, caller: Caller = ANONYMOUS, keyed: str | None = None) -> Begun:
        """Writes the request that `wanted`, which has been checked, asks for to the log; hands it to the crawlers.

        `keyed` is an id that is its caller's for this one request (`idempotency.py`): a session of it is begun once,
        however often it is asked for. Raises TokenRefused where the caller is not admitted, Limited where it has too
        many sessions or, as Overloaded, this gateway too much in hand, BrokerUnavailable, StreamFull, KeyReused where
        that id is another's, or KeyEnding.
        """
        asked_at = time.monotonic()
        if not caller.admitted:
            raise TokenRefused
        session = keyed or secrets.token_hex(16)
        if keyed and await self._begun_before(keyed):
            return await self._begin(wanted, session, asked_at, caller, keyed)
        with nullcontext() if self.limits is None else self.limits.place(session, caller):
            if wanted.callback_url is not None:
                async with answered():
                    await self.webhooks.check(caller)
            return await self._begin(wanted, session, asked_at, caller, keyed)

    async def _begin(
        self, wanted: InitiateParameters, session: str, asked_at: float, caller: Caller, keyed: str | None
    ) -> Begun:
        request = SearchRequest(
            session=session,
            query=(wanted.search_query or "").strip(),
            result_limit=wanted.result_limit,
            requested_at=time.time(),
            deadline_s=self.deadline_s,
            filters=filters_of(wanted.filters),
            scope=None if wanted.scope is None else caller.scope(wanted.scope),
            url=wanted.url.strip() if wanted.url else None,
        )
        sequence, again = 0, False
        if not keyed:
            self.first_videos.asked(session, asked_at)
        try:
            with self.tally.working(Limited, KeyReused):
                async with asyncio.timeout(PATIENCE_S):
                    record = RequestRecord(
                        request=request, owner=caller.owner, place=caller.place, callback_url=wanted.callback_url
                    )
                    sequence, again = await self._written(session, record)
                    begun = Begun(session, sequence, again, self.secret_of(record))
                    if again and keyed and await self.session_log.get(session, subjects.CRAWLED) is not None:
                        await self._post(session, record, caller)
                        return begun
                    if self.limits is not None:
                        await self.limits.confirm(caller, sequence)
                    await self._list(session, caller.listed_as)
                    await self._post(session, record, caller)
                    subject, body = subjects.search(session), encode(request)
                    with sent(subjects.SEARCH_TEMPLATE, subject, len(body)), suppress(AlreadyExists):
                        await self.session_log.bus.publish(subject, body, headers=inject(), patience_s=PATIENCE_S)
        except (BrokerUnavailable, PublishRefused, Limited, TimeoutError) as error:
            if sequence and not keyed:  # what has a key is asked for again
                await self._never_began(session)
            if isinstance(error, TimeoutError):
                raise BrokerUnavailable(f"nothing was stored within {PATIENCE_S:g} s") from error
            raise
        if not again:
            metrics.sessions_begun.add(1, {"source": "url" if request.url else "search"})
        log.info(
            "session begun", session=session, query=request.query, url=request.url, result_limit=request.result_limit
        )
        return begun

    def secret_of(self, record: RequestRecord) -> str | None:
        """What the webhooks of a session are signed with; None where it has none, or those of a caller with a name."""
        if record.callback_url is None or record.owner or self.webhook_secrets is None:
            return None
        return self.webhook_secrets.shown("", record.request.session)

    async def _post(self, session: str, record: RequestRecord, caller: Caller) -> None:
        """Has the results posted; before the crawl is asked for, so that one that is over has been posted, too."""
        if record.callback_url is not None:
            await self.webhooks.put(session, caller, PATIENCE_S)

    async def _begun_before(self, session: str) -> bool:
        async with answered():
            return await begun_before(self.session_log, session)

    async def _written(self, session: str, record: RequestRecord) -> tuple[int, bool]:
        try:
            return await self.session_log.create(session, subjects.REQUEST, record, patience_s=PATIENCE_S), False
        except AlreadyExists:  # asked for before, or the first try was stored and its acknowledgement lost
            there = await self.session_log.get(session, subjects.REQUEST)
            if there is None or not isinstance(there.message, RequestRecord):
                raise BrokerUnavailable("the request was stored and cannot be read yet") from None
            if not same_search(there.message.request, record.request) or (
                there.message.callback_url != record.callback_url
            ):
                raise KeyReused from None
            return there.sequence, True

    async def _list(self, session: str, owner: str) -> None:
        """Enters a session into the list of that name, if there is one."""
        if owner:
            body = encode(OwnedRecord(session=session))
            with suppress(AlreadyExists):
                await self.session_log.bus.publish(
                    subjects.owned(owner, session), body, headers=inject(), create=True, patience_s=PATIENCE_S
                )

    async def _never_began(self, session: str) -> None:
        """Closes a session that its client will not hear of, so that nobody works on it if the request came through."""
        record = CrawledRecord(reason=Reason.FAILED, items=0, message="the request could not be handed on")
        try:
            await self.session_log.create(session, subjects.CRAWLED, record, patience_s=0)
            metrics.sessions_ended.add(1, {"reason": str(record.reason)})
        except (BrokerUnavailable, PublishRefused) as error:
            log.warning("a session is left to its deadline", session=session, error=str(error))

    async def cancel(self, session: str, caller: Caller | None = None) -> None:
        """Stops all work on `session` and completes it; one that is complete stays as it is.

        Raises SessionUnknown, also for what `caller` may not see, or BrokerUnavailable after PATIENCE_S: then a second
        cancel does what is left to do.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                if caller is not None:
                    await self.check(session, caller)
                await self._cancel(session)
        except TimeoutError as error:
            raise BrokerUnavailable(f"not cancelled within {PATIENCE_S:g} s") from error

    async def _cancel(self, session: str) -> None:
        state = await self.session_log.state(session)
        if state.request is None:
            raise SessionUnknown
        if state.complete and not state.cancelled:
            return
        if not state.complete:
            with suppress(AlreadyExists):
                await self.session_log.create(session, subjects.CANCEL, CancelRecord(requested_at=time.time()))
            await self.session_log.bus.tell(subjects.cancel(session))
            ending = Ending(Reason.CANCELLED, filtered=state.passed_over)
            await close(self.session_log, session, ending, closed_by="gateway")
        await purge(self.session_log, session)
        log.info("session cancelled", session=session)

    async def check(self, session: str, caller: Caller) -> None:
        """Raises SessionUnknown for a session that is not in the log, and for one of another's.

        Raises BrokerUnavailable after PATIENCE_S.
        """
        async with answered():
            there = await self.session_log.get(session, subjects.REQUEST)
        if not may_follow(caller, there):
            raise SessionUnknown

    async def opened(self, session: str, after: int, caller: Caller) -> Following:
        """`follow`, once it is known that it can: raises what `Following.check` does, or BrokerUnavailable in time."""
        following = self.follow(session, after, caller=caller)
        async with answered():
            await following.check()
        return following

    def follow(
        self, session: str, after: int = 0, turn: asyncio.Lock | None = None, *, caller: Caller | None = None
    ) -> Following:
        """A session from the record after `after` on; one that `caller` may not see is as one that is not there."""
        census = None if self.limits is None else self.limits.census
        return Following(self.session_log, session, after, turn, self.check_s, caller=caller, census=census)
