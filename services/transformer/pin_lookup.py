"""Asks the site for more about a pin: its resource, then its page. Paced, bounded, and never fatal to an item."""

from __future__ import annotations

import asyncio
import json
import re
import time
from functools import partial
from urllib.parse import quote, urljoin, urlsplit

import httpx2
import stamina
import structlog
from aiolimiter import AsyncLimiter

from libs.common.errors import PinstreamError
from services.transformer.address import codec_of, media_in, suffix
from services.transformer.egress import REDIRECTS
from services.transformer.remembered import Remembered
from services.transformer.settings import TransformerSettings
from services.transformer.verify import Tally

FIELD_SET = "unauth_react_main_pin"
OTHER_FIELD_SET = "detailed"
HANDLER = "www/pin/[id].js"  # the site refuses resource requests without it
PAGE_BYTES = 8 * 1024 * 1024  # a pin's page is about one
KEPT_HEADERS = ("location", "retry-after", "content-type")
PINS_REMEMBERED = 512
PIN_TTL_S = 600.0
FAULTS = 3  # requests in a row that failed; then the site is left alone for a while
QUIET_S = 20.0  # that while, and after a 429 that does not name its own

_PIN_ID = re.compile(r"[\w-]{1,64}")

log = structlog.get_logger(__name__)
Media = dict[str, list[str]]  # addresses by signature


class NotAsked(PinstreamError):
    """The site could not be asked: it refused, did not answer, or too many are waiting for a turn."""


class _Refused(NotAsked):
    """The site answered, with a refusal."""


class _Faulty(PinstreamError):
    """The site answered with 5xx."""


class PinLookup:
    """What the site says of a pin's media, remembered by pin."""

    def __init__(self, client: httpx2.AsyncClient, settings: TransformerSettings) -> None:
        rate = settings.site_requests_per_second
        self._client = client
        self._settings = settings
        self._origin = settings.site_url.rstrip("/")
        self._pace = AsyncLimiter(max(rate, 1.0), max(1.0, 1.0 / rate))
        self._waiting = 0
        self._quiet_until = 0.0
        self._faults = 0
        self._remembered = Remembered[tuple[str, str], Media](PINS_REMEMBERED, PIN_TTL_S)  # by way and pin
        self._ways = (("resource", self._read_resource), ("page", self._read_page))

    async def media(self, pin: str, signature: str, known: set[str], tally: Tally) -> tuple[list[str], bool]:
        """Addresses of the video `signature`, new to `known`, in what the site says of `pin`.

        Asks for the page only where the resource tells no new file. The flag says whether the site was heard in full;
        where it refuses, that is logged and the flag is False.
        """
        found: list[str] = []
        heard = True
        for way, read in self._ways if _PIN_ID.fullmatch(pin) else ():
            try:
                media = await self._remembered.get((way, pin), partial(read, pin, tally))
            except NotAsked as error:
                log.warning("pin_not_asked", way=way, pin=pin, reason=str(error))
                heard = False
                continue
            found += [url for url in media.get(signature.lower(), []) if url not in known and url not in found]
            if any(suffix(url) == ".mp4" and codec_of(url) == "h264" for url in found):
                return found, True
        return found, heard

    async def close(self) -> None:
        await self._remembered.close()

    async def _read_resource(self, pin: str, tally: Tally) -> Media:
        try:
            return await self._read_fields(pin, FIELD_SET, tally)
        except _Refused as error:
            log.info("pin_fields_refused", pin=pin, fields=FIELD_SET, reason=str(error))
            return await self._read_fields(pin, OTHER_FIELD_SET, tally)

    async def _read_fields(self, pin: str, fields: str, tally: Tally) -> Media:
        path = f"/pin/{quote(pin)}/"
        response = await self._get(
            f"{self._origin}/resource/PinResource/get/",
            tally,
            params={
                "source_url": path,
                "data": json.dumps({"options": {"id": pin, "field_set_key": fields}, "context": {}}),
                "_": str(int(time.time() * 1000)),
            },
            headers={
                "Accept": "application/json, text/javascript, */*, q=0.01",
                "X-Requested-With": "XMLHttpRequest",
                "X-Pinterest-AppState": "active",
                "X-Pinterest-PWS-Handler": HANDLER,
                "X-Pinterest-Source-Url": path,
            },
        )
        if response.status_code == 200 and not response.text.lstrip().startswith("{"):
            raise _Refused("answered by a page where JSON was asked for, as a login or consent wall is")
        return self._media(response)

    async def _read_page(self, pin: str, tally: Tally) -> Media:
        return self._media(await self._get(f"{self._origin}/pin/{quote(pin)}/", tally))

    def _media(self, response: httpx2.Response) -> Media:
        if response.status_code in (404, 410):
            return {}
        if response.status_code != 200:
            raise _Refused(f"the site answered {response.status_code}")
        return media_in(response.text)

    async def _get(
        self,
        url: str,
        tally: Tally,
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx2.Response:
        try:
            async for attempt in stamina.retry_context(
                on=(httpx2.TransportError, TimeoutError, _Faulty), attempts=2, timeout=None, wait_initial=0.2
            ):
                with attempt:
                    response = await self._follow(url, tally, params, headers)
        except (httpx2.HTTPError, TimeoutError, _Faulty) as error:
            self._faults += 1
            if self._faults >= FAULTS:
                self._quiet_until = time.monotonic() + QUIET_S
            raise NotAsked(repr(error)) from error
        self._faults = 0
        return response

    async def _follow(
        self, url: str, tally: Tally, params: dict[str, str] | None, headers: dict[str, str] | None
    ) -> httpx2.Response:
        """GET, and up to three redirects within the site's origin (a pin's page may be at `/pin/<slug>--<id>/`)."""
        for _ in range(4):
            await self._turn()
            tally.requests += 1
            async with asyncio.timeout(self._settings.request_timeout_s * 2):
                response = await self._read(url, params, headers)
            self._note_refusal(response)
            target = urljoin(url, response.headers.get("location", ""))
            if response.status_code not in REDIRECTS or urlsplit(target)[:2] != urlsplit(self._origin)[:2]:
                break
            url, params = target, None
        return response

    async def _read(self, url: str, params: dict[str, str] | None, headers: dict[str, str] | None) -> httpx2.Response:
        """The answer with its body, of which no more than PAGE_BYTES are read."""
        body = bytearray()
        async with self._client.stream("GET", url, params=params, headers=headers) as response:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > PAGE_BYTES:
                    log.info("pin_page_cut", url=url, bytes=len(body))
                    break
        kept = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
        return httpx2.Response(response.status_code, headers=kept, content=bytes(body[:PAGE_BYTES]))

    def _note_refusal(self, response: httpx2.Response) -> None:
        if response.status_code >= 500:
            raise _Faulty(f"the site answered {response.status_code}")
        if response.status_code == 429:
            text = response.headers.get("retry-after", "")
            self._quiet_until = time.monotonic() + (float(text) if text.isdigit() else QUIET_S)

    async def _turn(self) -> None:
        """Waits for a turn at the site; raises NotAsked at once where it would take longer than `site_wait_s`."""
        wait = self._settings.site_wait_s
        if (left := self._quiet_until - time.monotonic()) > 0:
            raise NotAsked(f"the site asked to be left alone for another {left:.0f} s")
        if self._waiting / self._settings.site_requests_per_second >= wait:
            raise NotAsked(f"{self._waiting} others are waiting for a turn")
        self._waiting += 1
        try:
            async with asyncio.timeout(wait + 1):
                await self._pace.acquire()
        finally:
            self._waiting -= 1
