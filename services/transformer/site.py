"""Requests to the site: at a pace that all transformers share, bounded, and none while it wants to be left alone."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import httpx2
import stamina
import structlog

from libs.common.bus import Bus
from libs.common.errors import PinstreamError
from libs.common.lane import Lane, Shared
from libs.common.pace import Rate
from libs.common.site_metrics import asked
from services.transformer.egress import REDIRECTS
from services.transformer.settings import TransformerSettings
from services.transformer.verify import Tally

BODY_BYTES = 8 * 1024 * 1024  # a pin's page is about one
KEPT_HEADERS = ("location", "retry-after", "content-type")
FAULTS = 3  # requests in a row that failed; then the site is left alone for a while
QUIET_S = 20.0  # that while, and after a 429 that does not name its own
BATCHES = 0.5  # of SITE_REQUESTS_PER_SECOND; the rest is for single pins

log = structlog.get_logger(__name__)


class NotAsked(PinstreamError):
    """The site could not be asked: it refused, did not answer, or too many are waiting for a turn."""


class SiteRefused(NotAsked):
    """The site answered, with a refusal."""


class _Faulty(PinstreamError):
    """The site answered with 5xx."""


class Lanes(NamedTuple):
    """Where turns are waited for: to ask for many pins, and to ask for one."""

    batches: Lane
    pins: Lane


def lanes(settings: TransformerSettings, bus: Bus | None = None) -> Lanes:
    """Those of all transformers of the site; without a bus, of this process alone."""

    def lane(what: str, share: float) -> Lane:
        per_second = settings.site_requests_per_second * share
        store = Shared(bus, f"{settings.site_url.rstrip('/')}#{what}") if bus else None
        return Lane(Rate(per_second, max(1, round(per_second))), store)

    return Lanes(lane("batches", BATCHES), lane("pins", 1 - BATCHES))


class Site:
    """`get` when `lane` gives a turn; who would wait longer than `wait_s`, by default SITE_WAIT_S, goes without."""

    def __init__(self, client: httpx2.AsyncClient, settings: TransformerSettings, lane: Lane) -> None:
        self._client = client
        self._settings = settings
        self._lane = lane
        self._waiting = 0
        self._quiet_until = 0.0
        self._faults = 0

    def leave_alone(self, seconds: float) -> None:
        """Nothing is asked for so long, by this process."""
        self._quiet_until = max(self._quiet_until, time.monotonic() + seconds)

    async def turn(self) -> None:
        """Waits for a turn to ask, of which `get` is told then. Raises NotAsked."""
        await self._turn(self._settings.site_wait_s)

    async def get(
        self,
        url: str,
        tally: Tally,
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        wait_s: float | None = None,
        turn_had: bool = False,
    ) -> httpx2.Response:
        """The answer with its body, whatever its status below 500. Raises NotAsked.

        With `turn_had` the first request goes at once: its turn was waited for by `turn`.
        """
        wait_s = self._settings.site_wait_s if wait_s is None else min(wait_s, self._settings.site_wait_s)
        try:
            async for attempt in stamina.retry_context(
                on=(httpx2.TransportError, TimeoutError, _Faulty), attempts=2, timeout=None, wait_initial=0.2
            ):
                with attempt:
                    had = turn_had and attempt.num == 1
                    response = await self._follow(url, tally, params, headers, wait_s, turn_had=had)
        except (httpx2.HTTPError, TimeoutError, _Faulty) as error:
            self._faults += 1
            if self._faults >= FAULTS:
                self.leave_alone(QUIET_S)
            raise NotAsked(repr(error)) from error
        self._faults = 0
        return response

    async def _follow(
        self,
        url: str,
        tally: Tally,
        params: dict[str, str] | None,
        headers: dict[str, str] | None,
        wait_s: float,
        *,
        turn_had: bool,
    ) -> httpx2.Response:
        """GET, and up to three redirects within the same origin (a pin's page may be at `/pin/<slug>--<id>/`)."""
        for hop in range(4):
            if hop or not turn_had:
                await self._turn(wait_s)
            tally.requests += 1
            with asked("pins") as request:
                async with asyncio.timeout(self._settings.request_timeout_s * 2):
                    response = await self._read(url, params, headers)
                request.status = response.status_code
            await self._note_refusal(response)
            target = urljoin(url, response.headers.get("location", ""))
            if response.status_code not in REDIRECTS or urlsplit(target)[:2] != urlsplit(url)[:2]:
                break
            url, params = target, None
        return response

    async def _read(self, url: str, params: dict[str, str] | None, headers: dict[str, str] | None) -> httpx2.Response:
        """The answer with its body, of which no more than BODY_BYTES are read."""
        body = bytearray()
        async with self._client.stream("GET", url, params=params, headers=headers) as response:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > BODY_BYTES:
                    log.info("site_answer_cut", url=url, bytes=len(body))
                    break
        kept = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
        return httpx2.Response(response.status_code, headers=kept, content=bytes(body[:BODY_BYTES]))

    async def _note_refusal(self, response: httpx2.Response) -> None:
        if response.status_code >= 500:
            raise _Faulty(f"the site answered {response.status_code}")
        if response.status_code == 429:
            text = response.headers.get("retry-after", "")
            await self._lane.hold(float(text) if text.isdigit() else QUIET_S)

    async def _turn(self, wait_s: float) -> None:
        """Waits for a turn. Raises NotAsked where that takes longer than `wait_s`, at once if it will."""
        if (left := self._quiet_until - time.monotonic()) > 0:
            raise NotAsked(f"the site is left alone for another {left:.0f} s")
        if self._waiting / self._lane.rate.per_second >= wait_s:
            raise NotAsked(f"{self._waiting} others are waiting for a turn")
        self._waiting += 1
        try:
            held = await self._lane.turn(probe=False, within_s=wait_s)
        except TimeoutError:
            raise NotAsked(f"no turn came within {wait_s:g} s") from None
        finally:
            self._waiting -= 1
        if held is not None:
            raise NotAsked(f"the site asked for no request within {held.wait_s:.0f} s")
