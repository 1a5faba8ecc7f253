"""What is laid in the queues of the stages: requests, raw media and direct links, as the stages before make them."""

from __future__ import annotations

import time

import msgspec

from benchmarks.corpus import of_sessions
from benchmarks.feeder import video
from benchmarks.scaling.stage import Given
from benchmarks.seeds import seed
from libs.common import subjects
from libs.common.messages import DirectMedia, RequestRecord, SearchRequest, encode
from libs.common.session_log import SessionLog

REPEATS = 0.3  # of the items of a search show a video again
DIRECT_SESSIONS = 10
SEARCH_LIMIT, SEARCH_PINS = 100, 240  # more are there than are asked for, so that each search emits its limit


def request_of(session: str, query: str, limit: int) -> SearchRequest:
    """As a gateway makes it."""
    return SearchRequest(session=session, query=query, result_limit=limit, requested_at=time.time())


async def record_requests(log: SessionLog, requests: list[SearchRequest]) -> None:
    """Begins the logs of sessions as a gateway does."""
    for request in requests:
        await log.create(request.session, subjects.REQUEST, RequestRecord(request=request))


def searches(turn: int, count: int, words: str, corpus: str) -> tuple[list[SearchRequest], list[Given]]:
    """New searches, each of a topic of its own."""
    requests = [
        request_of(
            f"{turn:08x}{n:024x}",
            f"scaling seed:{seed(corpus, f'{turn}-{n}')} pins:{SEARCH_PINS} {words}".strip(),
            SEARCH_LIMIT,
        )
        for n in range(count)
    ]
    given = [Given(subjects.search(one.session), encode(one), (one.session, "first")) for one in requests]
    return requests, given


async def raw_media(origin: str, turn: int, distinct: int, corpus: str) -> list[Given]:
    """Items of ten searches with so many videos that nobody has asked about, and their re-pins."""
    found = await of_sessions(origin, 10, distinct, f"seed:{seed(corpus, turn)}")
    return [Given(subjects.raw(one.session, one.item), encode(one), (one.session, one.item)) for one in found]


async def known_media(origin: str, turn: int, distinct: int, corpus: str) -> list[Given]:
    """Always the same videos, in sessions that are new."""
    found = await of_sessions(origin, 10, distinct, f"seed:{seed(corpus, 'known')}")
    fresh = [msgspec.structs.replace(one, session=f"{turn:08x}{one.session[8:]}") for one in found]
    return [Given(subjects.raw(one.session, one.item), encode(one), (one.session, one.item)) for one in fresh]


def direct_media(turn: int, count: int) -> tuple[list[SearchRequest], list[Given]]:
    """Resolved items of ten sessions, of which a share are repeats."""
    sessions = [f"{turn:08x}{n:024x}" for n in range(DIRECT_SESSIONS)]
    distinct = max(1, round(count * (1 - REPEATS)))
    given = []
    for n in range(count):
        session, item = sessions[n % DIRECT_SESSIONS], f"{n}-0"
        direct = DirectMedia(session=session, item=item, video=video(turn << 32 | n % distinct))
        given.append(Given(subjects.direct(session, item), encode(direct), (session, item)))
    return [request_of(one, "direct", count) for one in sessions], given
