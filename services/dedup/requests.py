"""What sessions ask for, as their logs have it: whoever crawled and resolved an item, its outcome is held to that."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from libs.common import subjects
from libs.common.bus import LAG_S
from libs.common.messages import RequestRecord, SearchRequest, decode
from libs.common.session_log import SessionLog

REMEMBERED = 2_000


class Requests:
    """The requests of the sessions that had an item last; a request never changes."""

    def __init__(self, session_log: SessionLog) -> None:
        self.session_log = session_log
        self._known: OrderedDict[str, SearchRequest] = OrderedDict()

    async def of(self, session: str) -> SearchRequest | None:
        """The request of `session`; None where its log is gone, so that nobody will hear of the outcome.

        Raises MalformedMessage; NewerVersion where it is not for this version to read.
        """
        request = self._known.get(session) or await self._read(session)
        if request is not None:
            self._known[session] = request
            self._known.move_to_end(session)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return request

    async def _read(self, session: str) -> SearchRequest | None:
        subject = subjects.record(session, subjects.REQUEST)
        for last in (False, True):
            stored = await self.session_log.bus.last(subjects.RESULTS, subject)
            if stored is not None:
                return decode(stored.body, RequestRecord).request
            if not last:
                await asyncio.sleep(LAG_S)  # a leader that was just elected
        return None
