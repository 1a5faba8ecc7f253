"""The last line of this process's log that told of an error, for those who look at it from outside (`announce.py`)."""

from __future__ import annotations

import sys

from structlog.typing import EventDict, WrappedLogger

from libs.common.tally import Failure, failure_of, told

LEVELS = frozenset({"error", "critical"})
WHY = ("error", "why", "reason")  # what lines of the log call it

_last: list[Failure] = []


def note(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A processor of the log, before exceptions are made text."""
    if event.get("level") in LEVELS:
        what, raised = str(event.get("event", "")), event.get("exc_info")
        error = raised[1] if isinstance(raised, tuple) else sys.exc_info()[1] if raised is True else raised
        why = next((str(event[name]) for name in WHY if event.get(name)), "")
        if isinstance(error, BaseException):
            _last[:] = [failure_of(error, what)]
        else:
            _last[:] = [told(f"{what}: {why}" if why else what)]
    return event


def last_error() -> Failure | None:
    """None while there was none."""
    return _last[0] if _last else None
