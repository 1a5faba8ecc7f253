"""Asks the site for more about a pin. Paced, bounded, and never fatal to an item.

First with other pins by one request; where that tells no file its page is asked for, which names every rendition, and
where that request could not be made, first its resource. Where that request told of the video, and of no file, its page
seldom knows better: it is asked for if there is a turn soon, so that hardly anybody waits for what is not there, and
hardly ever where the last such pages told no file.
"""

from __future__ import annotations

import json
import re
import time
from functools import partial
from urllib.parse import quote

import httpx2
import structlog

from services.transformer.address import codec_of, media_in, suffix
from services.transformer.pin_batch import Media, PinBatch
from services.transformer.remembered import Remembered
from services.transformer.settings import TransformerSettings
from services.transformer.site import Lanes, NotAsked, Site, SiteRefused
from services.transformer.verify import Tally

FIELD_SET = "unauth_react_main_pin"
OTHER_FIELD_SET = "detailed"
HANDLER = "www/pin/[id].js"  # the site refuses resource requests without it
PINS_REMEMBERED = 512
PIN_TTL_S = 600.0
SOON_S = 1.0  # for a turn to ask for the page of a pin whose video the site has told of
MISSES, ONE_IN = 4, 32  # so many such pages in a row told no file: one in so many is asked for, until one tells a file

_PIN_ID = re.compile(r"[\w-]{1,64}")

log = structlog.get_logger(__name__)


class PinLookup:
    """What the site says of a pin's media, remembered by pin."""

    def __init__(self, client: httpx2.AsyncClient, settings: TransformerSettings, lanes: Lanes) -> None:
        self._origin = settings.site_url.rstrip("/")
        self._site = Site(client, settings, lanes.pins)
        self._batch = PinBatch(Site(client, settings, lanes.batches), settings)
        self._remembered = Remembered[tuple[str, str], Media](PINS_REMEMBERED, PIN_TTL_S)  # by way and pin
        self._allow_hevc = settings.allow_hevc
        self._pages = _Pages()

    async def media(self, pin: str, signature: str, known: set[str], tally: Tally) -> tuple[list[str], bool]:
        """Addresses of the video `signature`, new to `known`, in what the site says of `pin`.

        The flag says whether the site was heard in full; where it refuses, that is logged and the flag is False.
        """
        if not _PIN_ID.fullmatch(pin):
            return [], True
        found: list[str] = []
        listed: list[str] = []  # all that the site told of the video, known or not

        async def told(way: str, wait_s: float | None = None) -> bool:
            """Whether the site told what it knows that way; what is new is in `found` then."""
            try:
                media = await self._remembered.get((way, pin), partial(self._read, way, pin, tally, wait_s))
            except NotAsked as error:
                log.info("pin_not_asked", way=way, pin=pin, reason=str(error))
                return False
            listed.extend(media.get(signature.lower(), []))
            found.extend(url for url in listed if url not in known and url not in found)
            return True

        async def page() -> bool:
            if not listed:
                return await told("page")
            if not self._pages.worth_a_turn():
                return True
            count = partial(_files, found, any_codec=self._allow_hevc)
            before, heard = count(), await told("page", SOON_S)
            if heard:
                self._pages.told(file=count() > before)
            return heard

        heard = await told("batch")
        if not heard and not _files(found):
            heard = await told("resource")
        if not _files(found):
            heard = await page() and heard
        return found, heard or _files(found) > 0

    async def close(self) -> None:
        await self._remembered.close()
        await self._batch.close()

    async def _read(self, way: str, pin: str, tally: Tally, wait_s: float | None) -> Media:
        if way == "batch":
            return await self._batch.media(pin)
        return await (self._read_resource(pin, tally) if way == "resource" else self._read_page(pin, tally, wait_s))

    async def _read_resource(self, pin: str, tally: Tally) -> Media:
        try:
            return await self._read_fields(pin, FIELD_SET, tally)
        except SiteRefused as error:
            log.info("pin_fields_refused", pin=pin, fields=FIELD_SET, reason=str(error))
            return await self._read_fields(pin, OTHER_FIELD_SET, tally)

    async def _read_fields(self, pin: str, fields: str, tally: Tally) -> Media:
        path = f"/pin/{quote(pin)}/"
        response = await self._site.get(
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
            raise SiteRefused("answered by a page where JSON was asked for, as a login or consent wall is")
        return self._media(response)

    async def _read_page(self, pin: str, tally: Tally, wait_s: float | None) -> Media:
        return self._media(await self._site.get(f"{self._origin}/pin/{quote(pin)}/", tally, wait_s=wait_s))

    def _media(self, response: httpx2.Response) -> Media:
        if response.status_code in (404, 410):
            return {}
        if response.status_code != 200:
            raise SiteRefused(f"the site answered {response.status_code}")
        return media_in(response.text)


class _Pages:
    """What pages told of late of videos that the site had told of already."""

    def __init__(self) -> None:
        self._without = 0  # a file, in a row
        self._left_out = 0

    def worth_a_turn(self) -> bool:
        """Whether one more is; each that asks is counted."""
        if self._without < MISSES:
            return True
        self._left_out = (self._left_out + 1) % ONE_IN
        return self._left_out == 0

    def told(self, *, file: bool) -> None:
        """One was read."""
        self._without = 0 if file else self._without + 1


def _files(urls: list[str], *, any_codec: bool = False) -> int:
    return sum(suffix(url) == ".mp4" and (any_codec or codec_of(url) == "h264") for url in urls)
