"""Dead letters: messages that could not be handled, kept with their headers and the reason."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import NamedTuple

from libs.common import metrics, subjects
from libs.common.bus import Bus, Stored
from libs.common.errors import AlreadyExists, PinstreamError, Unsendable

REASON = "Pinstream-Reason"
CUT = "Pinstream-Size"  # of a body that was too large to be kept whole: its size, bytes
KEPT_PREFIX = "Original-"
ROOM_BYTES = 16 * 1024  # for the headers of a dead letter, whose body may be as large as the broker takes
READ_BATCH = 64  # letters may be a megabyte each


_sendable = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # names of headers, as HTTP has them


class NotReplayable(PinstreamError):
    """A letter that cannot be handled again."""


class Letter(NamedTuple):
    """A dead letter. `number` is its place in the stream, `buried_at` seconds since 1970, `headers` the message's own.

    `size` is of the body in bytes; `body` may be the beginning of it only, where it was too large to be kept.
    """

    number: int
    stage: str
    subject: str
    reason: str
    buried_at: float
    size: int
    headers: dict[str, str]
    body: bytes

    @property
    def session(self) -> str:
        """The session that it was for, where its subject says so."""
        return subjects.session_in(self.subject)


def kept(headers: dict[str, str]) -> dict[str, str]:
    """Headers as they are kept with a message elsewhere: the broker would act on its own ones again."""
    return {
        f"{KEPT_PREFIX}{name}" if name.lower().startswith("nats-") else name: value
        for name, value in headers.items()
        if _sendable.fullmatch(name)
    }


def restored(headers: dict[str, str]) -> dict[str, str]:
    """Headers as they were before `kept`; the broker's own are of the copy, and go."""
    return {
        name.removeprefix(KEPT_PREFIX): value for name, value in headers.items() if not name.lower().startswith("nats-")
    }


async def bury(bus: Bus, stage: str, subject: str, body: bytes, headers: dict[str, str], why: str) -> None:
    """Keeps a message that `stage` could not handle."""
    noted = kept(headers) | {REASON: " ".join(why.split())[:500]}
    room = bus.client.max_payload - ROOM_BYTES
    if len(body) > room:
        noted[CUT] = str(len(body))
    letter = subjects.dead_letter(stage, subject)
    try:
        await bus.publish(letter, body[:room], headers=noted)
    except Unsendable:  # its headers are too large, or of a kind that the client does not send
        own = {name: noted[name] for name in (REASON, CUT) if name in noted}
        await bus.publish(letter, body[:room], headers=own)
    metrics.dead_letters.add(1, {"stage": stage})


async def letters(bus: Bus, after: int = 0) -> AsyncIterator[Letter]:
    """All letters that are kept, the oldest first."""
    while batch := await bus.read(subjects.DEAD_LETTERS, subjects.ALL_DEAD_LETTERS, after + 1, READ_BATCH):
        for stored in batch:
            yield _letter(stored)
        after = batch[-1].sequence


async def letter(bus: Bus, number: int) -> Letter | None:
    """One letter, or None where there is none of that number (any more)."""
    async for one in letters(bus, number - 1):
        return one if one.number == number else None
    return None


async def replay(bus: Bus, one: Letter) -> None:
    """Has the message handled again, in its stage's quarantine, where it can harm nobody; then the letter is gone.

    Raises NotReplayable where its stage has no quarantine or the body was not kept whole.
    """
    if one.stage not in subjects.SUSPECTS_OF:
        raise NotReplayable(f"letter {one.number} is of the stage {one.stage}, whose messages come again by themselves")
    if one.size > len(one.body):
        raise NotReplayable(f"letter {one.number} had {one.size} bytes, of which {len(one.body)} were kept")
    headers = kept(one.headers)
    with suppress(AlreadyExists):  # it waits there already
        await bus.publish(subjects.suspect(one.stage, one.subject), one.body, headers=headers, create=True)
    await drop(bus, one.number)


async def drop(bus: Bus, number: int) -> bool:
    """Removes a letter for good; returns whether there was one."""
    return await bus.remove(subjects.DEAD_LETTERS, number)


def _letter(stored: Stored) -> Letter:
    own = ("nats-", "pinstream-")
    headers = {name: value for name, value in stored.headers.items() if not name.lower().startswith(own)}
    return Letter(
        number=stored.sequence,
        stage=stored.subject.split(".")[1],
        subject=subjects.original(stored.subject),
        reason=stored.headers.get(REASON, ""),
        buried_at=stored.stored_at,
        size=int(stored.headers.get(CUT, len(stored.body))),
        headers=restored(headers),
        body=stored.body,
    )
