"""How long sessions that this gateway began wait for their first video."""

from __future__ import annotations

import time

from libs.common import metrics, subjects
from libs.common.bus import Stored
from libs.common.errors import MalformedMessage
from libs.common.session_log import SessionLog

MOST = 10_000  # sessions that wait; past it the oldest is forgotten


class FirstVideos:
    """Hears every record; of a session that was `asked` for here the first video is measured, by this clock alone."""

    def __init__(self, session_log: SessionLog) -> None:
        self._asked_at: dict[str, float] = {}
        session_log.listeners.append(self._heard)

    def asked(self, session: str, at: float) -> None:
        """A client asked for `session`, at a time of the monotonic clock."""
        self._asked_at[session] = at
        if len(self._asked_at) > MOST:
            del self._asked_at[next(iter(self._asked_at))]

    def _heard(self, stored: Stored) -> None:
        asked_at = self._asked_at.get(subjects.session_in(stored.subject))
        if asked_at is None:
            return
        try:
            session, kind, _ = subjects.record_key(stored.subject)
        except MalformedMessage:
            return
        if kind == subjects.VIDEO:
            metrics.first_video.record(time.monotonic() - asked_at)
        if kind in (subjects.VIDEO, subjects.CRAWLED, subjects.CANCEL):
            self._asked_at.pop(session, None)
