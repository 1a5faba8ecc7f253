"""Whether all that sessions leave behind is gone."""

from __future__ import annotations

from libs.common import subjects
from libs.common.bus import Bus


async def tidied(bus: Bus) -> bool:
    """Raw media are removed one by one once a session is over: the last thing that it costs."""
    return not (await bus.subjects_under(subjects.RAW, subjects.ALL_RAW))[0]
