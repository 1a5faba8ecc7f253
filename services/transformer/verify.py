"""Whether an address is what it should be, found out by real requests: HEAD, then a range of one byte.

A rendition that is missing costs one request on a host whose HEAD can be trusted. That is learned per host: HEAD is
trusted once it has said yes, and never again once a GET has contradicted it.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import httpx2
import structlog

from libs.common.site_metrics import asked
from services.transformer.address import suffix
from services.transformer.egress import REDIRECTS, Allowed, parse, same_host_target
from services.transformer.patience import Host, Unanswered, patiently
from services.transformer.remembered import Remembered
from services.transformer.settings import TransformerSettings

MOST_REDIRECTS = 3
PLAYLIST_BYTES = 512 * 1024
HEADER_BYTES = 16 * 1024  # of a file: its kind, its duration and the size of its first track
DRAINED_BYTES = 16 * 1024  # read to its end, a small body leaves its connection usable
FTYP_RANGE = "bytes=0-11"  # an MP4 begins with a box whose type, at byte 4, is `ftyp`
ADDRESSES_REMEMBERED = 2_000  # for the videos being resolved, or soon again; those that are settled are kept elsewhere
SLOW = 0.8  # of REQUEST_TIMEOUT_S: answers that take so long on average soon will not come in time
HEAD_FAULTS = 4  # HEADs in a row that got no answer where a GET then did; from then on there are only GETs

log = structlog.get_logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What was learned of an address; `url` is where it really is. `by_head`: only HEAD was asked."""

    url: str
    present: bool
    status: int
    size_bytes: int | None = None
    by_head: bool = False


@dataclass(slots=True)
class Tally:
    """Requests spent on one item."""

    requests: int = 0


@dataclass(frozen=True, slots=True)
class _Reply:
    url: str
    method: str
    status: int
    headers: httpx2.Headers
    body: bytes

    @property
    def type(self) -> str:
        return self.headers.get("content-type", "").split(";")[0].strip().lower()

    @property
    def size_bytes(self) -> int | None:
        if self.status == 206:
            total = self.headers.get("content-range", "").rpartition("/")[2]
        else:
            total = self.headers.get("content-length", "")
        return int(total) if total.isdigit() else None


class Prober:
    """Asks the CDN. Only allowed hosts are ever asked; at most `probes` requests are under way at once."""

    def __init__(self, client: httpx2.AsyncClient, settings: TransformerSettings) -> None:
        self._client = client
        self._settings = settings
        self._allowed = Allowed(settings.media_hosts)
        self._slots = asyncio.Semaphore(settings.probes)
        slow_s = SLOW * settings.request_timeout_s
        self._hosts: dict[str, Host] = defaultdict(lambda: Host(asyncio.Semaphore(settings.probes_per_host), slow_s))
        self._remembered = Remembered[str, Answer](ADDRESSES_REMEMBERED, settings.absent_ttl_s)  # by address

    def may_ask(self, url: str) -> bool:
        return url in self._allowed

    def allowed(self, urls: Iterable[str]) -> list[str]:
        return [url for url in urls if self.may_ask(url)]

    async def file(self, url: str, tally: Tally, *, by_range: bool = False) -> Answer:
        """Whether `url` is a video file; `by_range` asks anew and by GET only. Raises Unanswered."""
        if by_range:
            self._remembered.forget(url)
            return await self._patiently(url, lambda attempt: self._by_range(url, tally))
        return await self._remembered.get(url, partial(self._ask, url, tally))

    async def playlist(self, url: str, tally: Tally) -> tuple[Answer, str]:
        """The text of an HLS playlist; whether it is one is for the reader to say. Raises Unanswered."""

        async def read(attempt: int) -> tuple[Answer, str]:
            reply = await self._request("GET", url, tally, most=PLAYLIST_BYTES)
            return Answer(reply.url, reply.status == 200, reply.status), reply.body.decode("utf-8", "replace")

        return await self._patiently(url, read)

    async def beginning(self, url: str, tally: Tally) -> bytes:
        """The first bytes of a file, HEADER_BYTES at most; none where it is refused. Raises Unanswered."""

        async def read(attempt: int) -> bytes:
            reply = await self._request("GET", url, tally, {"Range": f"bytes=0-{HEADER_BYTES - 1}"}, most=HEADER_BYTES)
            return reply.body[:HEADER_BYTES] if reply.status in (200, 206) else b""

        return await self._patiently(url, read)

    async def head_lies(self, url: str, tally: Tally) -> bool:
        """Whether HEAD denies `url`, which a GET has just found; if so, HEAD is not used on its host again."""
        try:
            reply = await self._request("HEAD", url, tally)
        except (Unanswered, httpx2.TransportError, TimeoutError) as error:
            log.info("head_unanswered", url=url, error=repr(error))
            return True
        if reply.status < 400:
            return False
        self._distrust_head(url)
        return True

    async def serves(self, url: str, tally: Tally) -> bool:
        """Whether the host of `url` gives us files now: asked for the last one that it gave."""
        known = self._host(url).gave
        if known is None:
            return False
        try:
            return (await self._by_range(known, tally)).present
        except (Unanswered, httpx2.TransportError, TimeoutError) as error:
            log.info("known_file_unanswered", url=known, error=repr(error))
            return False

    async def close(self) -> None:
        await self._remembered.close()

    async def _ask(self, url: str, tally: Tally) -> Answer:
        host = self._host(url)

        async def ask(attempt: int) -> Answer:
            # A host that answers HEAD with silence or 5xx may still answer GET, so only the first attempt is a HEAD.
            if host.head is False or attempt > 1:
                answer = await self._by_range(url, tally)
                if attempt > 1 and host.head is not False:
                    host.head_faults += 1
                    if host.head_faults >= HEAD_FAULTS:
                        self._distrust_head(url)
                return answer
            return await self._by_head(url, tally)

        return await self._patiently(url, ask)

    async def _by_head(self, url: str, tally: Tally) -> Answer:
        host = self._host(url)
        reply = await self._request("HEAD", url, tally)
        if reply.status in (200, 206) and reply.size_bytes != 0 and reply.type.startswith("video/"):
            host.head, host.head_faults = host.head is not False, 0
            host.gave = url
            return Answer(reply.url, True, reply.status, reply.size_bytes, by_head=True)
        if reply.status in (405, 501):
            self._distrust_head(url)
        elif host.head and reply.status in (403, 404, 410, *REDIRECTS):
            return Answer(reply.url, False, reply.status, by_head=True)
        answer = await self._by_range(url, tally)
        if answer.present and reply.status >= 400:
            self._distrust_head(url)
        return answer

    async def _by_range(self, url: str, tally: Tally) -> Answer:
        reply = await self._request("GET", url, tally, {"Range": "bytes=0-0"}, most=12)
        present = reply.status in (200, 206) and reply.size_bytes != 0
        if present and not reply.type.startswith("video/"):
            present = await self._begins_as_mp4(reply, tally)
        if present:
            self._host(url).gave = url
        return Answer(reply.url, present, reply.status, reply.size_bytes if present else None)

    async def _begins_as_mp4(self, reply: _Reply, tally: Tally) -> bool:
        """For servers that do not label their files (object stores send `application/octet-stream`)."""
        vague = ("", "application/octet-stream", "binary/octet-stream", "application/mp4")
        if reply.type not in vague or suffix(reply.url) != ".mp4":
            return False
        body = reply.body
        if len(body) < 12:
            body = (await self._request("GET", reply.url, tally, {"Range": FTYP_RANGE}, most=12)).body
        return body[4:8] == b"ftyp"

    async def _patiently(self, url: str, ask: Callable[[int], Awaitable[T]]) -> T:
        return await patiently(self._host(url), self._settings.request_attempts, ask)

    async def _request(
        self, method: str, url: str, tally: Tally, headers: dict[str, str] | None = None, most: int = 0
    ) -> _Reply:
        for _ in range(MOST_REDIRECTS + 1):
            reply = await self._send(method, url, tally, headers or {}, most)
            target = same_host_target(url, reply.headers.get("location")) if reply.status in REDIRECTS else None
            if target is None:
                break
            url = target
        if reply.status == 429 or (reply.status >= 500 and reply.status != 501):
            raise Unanswered(f"{url}: {reply.status}", _retry_after(reply.headers) if reply.status == 429 else None)
        return reply

    async def _send(self, method: str, url: str, tally: Tally, headers: dict[str, str], most: int) -> _Reply:
        target = parse(url)
        assert target is not None and self.may_ask(url), f"{url} is not on an allowed host"
        host = self._host(url)
        async with host.slot(), self._slots:
            tally.requests += 1
            started = time.monotonic()
            try:
                with asked("cdn") as request:
                    async with asyncio.timeout(self._settings.request_timeout_s):
                        async with self._client.stream(method, target, headers=headers) as response:
                            request.status = response.status_code
                            body = await _read(response, max(most, DRAINED_BYTES))
            finally:
                host.note_time(time.monotonic() - started)
        return _Reply(url, method, response.status_code, response.headers, body)

    def _host(self, url: str) -> Host:
        target = parse(url)
        return self._hosts[target.netloc.decode() if target else url]

    def _distrust_head(self, url: str) -> None:
        host = self._host(url)
        if host.head is not False:
            host.head = False
            log.info("head_not_trusted", url=url)


async def _read(response: httpx2.Response, most: int) -> bytes:
    body = bytearray()
    async with aclosing(response.aiter_bytes()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) >= most:
                break
    return bytes(body)


def _retry_after(headers: httpx2.Headers) -> float | None:
    text = headers.get("retry-after", "").strip()
    return float(text) if text.isdigit() else None
