"""Whether the broker stores what it is given, so that those who wait for records are told when none can come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import structlog

from libs.common import subjects
from libs.common.errors import BrokerUnavailable, PermissionRefused, PublishRefused, StreamFull, StreamMissing
from libs.common.session_log import SessionLog
from libs.common.tasks import end

ROOM_BYTES = 64 * 1024  # with less room than this the bucket refuses the larger records
QUIET_FACTOR = 5  # while nobody follows a session it is looked this much less often
ANSWER_S = 2.0

UNREACHABLE = "the broker cannot be reached"
NOT_STORING = "the broker does not store what it is given; its disk may be full"
NO_PLACE = "the broker has no place for results; its streams are not set up"
NO_ROOM = "the broker has no room left for results"
NO_ROOM_BETWEEN = {
    subjects.RAW: "the broker has no room left for raw media",
    subjects.DIRECT: "the broker has no room left for resolved media",
}

PLACES = {subjects.RESULTS: NO_ROOM, **NO_ROOM_BETWEEN}
PROVED = (subjects.RESULTS, subjects.RAW)

log = structlog.get_logger()

Listener = Callable[[str | None], None]


def trouble_of(error: BrokerUnavailable | PublishRefused, *, connected: bool) -> str:
    """What is the matter where a record or a request was not stored, in a clause."""
    if isinstance(error, StreamFull):
        return NO_ROOM
    if isinstance(error, PublishRefused):
        return "the broker refuses what it is given"
    return NOT_STORING if connected else UNREACHABLE


class Storage:
    """Looks at an interval. `trouble` says what is the matter, None while all is well.

    Records that come are proof enough. Where none does, nothing is removed, which a broker refuses whose disk was full
    (2.14 and 2.15, until they are started anew): it reads and answers as ever, and lets whoever writes wait.
    """

    def __init__(self, session_log: SessionLog, check_s: float) -> None:
        self.session_log = session_log
        self.check_s = check_s
        self.trouble: str | None = None
        self._listeners: set[Listener] = set()
        self._wanted = asyncio.Event()
        self._newest: dict[str, int] = {}  # by stream
        self._suspect = False

    @property
    def storing(self) -> bool:
        """Whether records are stored: this gateway can do its part, whatever the queues between others hold."""
        return self.trouble is None or self.trouble in NO_ROOM_BETWEEN.values()

    def listen(self, listener: Listener) -> None:
        """Calls `listener` with the trouble that begins, and with None when it is over."""
        if not self._listeners:
            self._wanted.set()
        self._listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        """No more."""
        self._listeners.discard(listener)

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            try:
                trouble = await self._look()
            except Exception:
                log.exception("cannot tell whether the broker stores records")
                trouble = self.trouble
            self._found(trouble)
            quiet = not (self._listeners or self._suspect)
            self._wanted.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.check_s * (QUIET_FACTOR if quiet else 1)):
                    await self._wanted.wait()

    def _found(self, trouble: str | None) -> None:
        """One failure may be a restart of the broker; the second in a row is trouble."""
        told = trouble if self._suspect or self.trouble else None
        self._suspect = trouble is not None
        before, self.trouble = self.trouble, told
        if (before is None) == (told is None):
            return
        if told:
            log.error("no records are stored", why=told)
        else:
            log.info("records are stored again")
        for listener in list(self._listeners):
            listener(told)

    async def _look(self) -> str | None:
        """What is the matter, if anything is."""
        bus = self.session_log.bus
        if not bus.connected:
            return UNREACHABLE
        try:
            for stream, full in PLACES.items():
                newest, has_room = await self._room(stream)
                if not has_room:
                    return full
                await self._prove(stream, newest)
        except StreamMissing:
            return NO_PLACE
        except PublishRefused:
            return NOT_STORING
        except (BrokerUnavailable, TimeoutError):
            return UNREACHABLE
        return None

    async def _room(self, stream: str) -> tuple[int, bool]:
        """The newest sequence of a stream, and whether it has room."""
        async with asyncio.timeout(ANSWER_S):
            info = await self.session_log.bus.api(f"STREAM.INFO.{stream}", patience_s=ANSWER_S)
        limit, held = info["config"]["max_bytes"], info["state"]["bytes"]
        return int(info["state"]["last_seq"]), not 0 < limit < held + ROOM_BYTES

    async def _prove(self, stream: str, newest: int) -> None:
        """Raises where nothing was stored since the last look, and nothing can be."""
        before, self._newest[stream] = self._newest.get(stream, newest), newest
        if before == newest and stream in PROVED:
            with suppress(PermissionRefused):  # a gateway that may not is told by its own requests only
                async with asyncio.timeout(ANSWER_S):
                    await self.session_log.bus.probe(stream)


@asynccontextmanager
async def storage(session_log: SessionLog, check_s: float) -> AsyncIterator[Storage]:
    """A watch over the broker that runs meanwhile."""
    storage = Storage(session_log, check_s)
    task = asyncio.create_task(storage.watch(), name="storage")
    try:
        yield storage
    finally:
        await end(task)
