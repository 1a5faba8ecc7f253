"""Asks the site about many pins by one request, at its endpoint for widgets, which needs no key."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import structlog
from opentelemetry import trace
from opentelemetry.trace import SpanContext

from libs.common.telemetry import batched
from services.transformer.address import media_in
from services.transformer.settings import TransformerSettings
from services.transformer.site import NotAsked, Site, SiteRefused
from services.transformer.verify import Tally

PATH = "/v3/pidgets/pins/info/"
MOST_PINS = 25  # by one request; no bound is known, and this makes a short address
REFUSED_S = 600.0  # a refusal is no accident; then the pins are asked for one by one for a while
OWN_HOST = "widgets.pinterest.com"

log = structlog.get_logger(__name__)
Media = dict[str, list[str]]  # addresses by signature


class PinBatch:
    """While a turn is waited for or a request is under way, the pins that are asked for wait together for the next."""

    def __init__(self, site: Site, settings: TransformerSettings) -> None:
        self._site = site
        self._url = _origin(settings.site_url) + PATH
        self._asked: dict[str, asyncio.Future[Media]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._spans: dict[str, SpanContext] = {}  # by pin, where who asks for it is traced

    async def media(self, pin: str) -> Media:
        """What the site says of `pin`, and perhaps of others. Raises NotAsked."""
        told = self._asked.get(pin)
        if told is None:
            told = self._asked[pin] = asyncio.get_running_loop().create_future()
        if (span := trace.get_current_span()).is_recording():
            self._spans[pin] = span.get_span_context()
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_all(), name="ask for pins")
        try:
            return await told
        finally:
            if self._asked.get(pin) is told:  # nobody waits for it any more: there is one caller a pin
                del self._asked[pin]
            self._spans.pop(pin, None)

    async def close(self) -> None:
        """Ends what is under way."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask_all(self) -> None:
        while self._asked:
            try:
                await self._site.turn()
            except NotAsked as error:
                batch = self._next()
                log.warning("pins_not_asked", pins=len(batch), reason=str(error))
                _fail(batch, error)
                continue
            batch = self._next()  # not before its turn has come: nobody who came meanwhile waits for another
            if not batch:
                return  # those who waited have gone
            try:
                spans = [self._spans[pin] for pin in batch if pin in self._spans]
                with batched("ask for pins", spans, **{"pinstream.pins": len(batch)}):
                    text = await self._answer(list(batch))
                media = media_in(text)
            except NotAsked as error:
                log.warning("pins_not_asked", pins=len(batch), reason=str(error))
                _fail(batch, error)
            except BaseException:
                _fail(batch, NotAsked("asking the site was given up"))
                raise
            else:
                for pin, told in batch.items():
                    if f'"{pin}"' not in text:
                        _fail({pin: told}, NotAsked("the site did not tell of it"))
                    elif not told.done():
                        told.set_result(media)

    def _next(self) -> dict[str, asyncio.Future[Media]]:
        return {pin: self._asked.pop(pin) for pin in list(self._asked)[:MOST_PINS]}

    async def _answer(self, pins: list[str]) -> str:
        response = await self._site.get(self._url, Tally(), params={"pin_ids": ",".join(pins)}, turn_had=True)
        if response.status_code == 200 and response.text.lstrip().startswith("{"):
            return response.text
        if response.status_code != 429:  # to which `Site` has its own answer
            self._site.leave_alone(REFUSED_S)
        raise SiteRefused(f"the site answered {response.status_code}, and not with pins")


def _fail(batch: dict[str, asyncio.Future[Media]], error: NotAsked) -> None:
    for told in batch.values():
        if not told.done():
            told.set_exception(error)


def _origin(site_url: str) -> str:
    """The site's host for widgets; a site under another name has it at its own origin."""
    parts = urlsplit(site_url)
    is_own = f".{parts.hostname}".endswith(".pinterest.com")
    return f"{parts.scheme}://{OWN_HOST}" if is_own else f"{parts.scheme}://{parts.netloc}"
