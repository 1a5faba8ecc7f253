"""RawMedia in, DirectMedia out: the arrow of this service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import structlog
from opentelemetry import trace

from libs.common import metrics, site_metrics
from libs.common.bus import Bus
from libs.common.messages import Alternative, DirectMedia, Kind, RawMedia, Variant
from services.transformer import egress, links
from services.transformer.address import is_media
from services.transformer.attempt import Attempt
from services.transformer.links import Outcome
from services.transformer.mp4 import Measure, measure
from services.transformer.patience import Unanswered
from services.transformer.pin_lookup import PinLookup
from services.transformer.remembered import Remembered
from services.transformer.resolve import ASKED, of_video
from services.transformer.settings import TransformerSettings
from services.transformer.site import lanes
from services.transformer.verify import Prober, Tally

NO_KIND = "none"  # of link

T = TypeVar("T")

log = structlog.get_logger(__name__)
tracer = trace.get_tracer("services.transformer")


@dataclass(slots=True)
class _Budget:
    """What an item may still wait for the CDN, or for the site."""

    seconds: float


class Resolver:
    """Resolves items, each video once: `async with Resolver(settings) as resolver: await resolver.resolve(raw)`.

    With a `bus` the pace of requests to the site is one with that of other processes.
    """

    def __init__(self, settings: TransformerSettings, bus: Bus | None = None) -> None:
        self._settings = settings
        self._client = egress.client(settings)
        self._prober = Prober(self._client, settings)
        self._lookup = PinLookup(self._client, settings, lanes(settings, bus))
        self._outcomes = Remembered[str, Outcome](settings.cache_size, settings.cache_ttl_s)  # by signature
        self._measures = Remembered[str, Measure](settings.cache_size, settings.cache_ttl_s)  # by address

        metrics.at_zero(
            metrics.verifications,
            kind=(Kind.MP4, Kind.HLS, Kind.EMBED, NO_KIND),
            verified=("yes", "no"),
            remembered=("yes", "no"),
        )
        site_metrics.begun("pins", "cdn")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, type_: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._outcomes.close()
        await self._measures.close()
        await self._prober.close()
        await self._lookup.close()
        await self._client.aclose()

    async def resolve(self, raw: RawMedia) -> DirectMedia:
        """The direct link of `raw`, or the reason why there is none (`no_media`, `host_not_allowed`, `gone`).

        Never raises for what the CDN or the site does: a fault there gives the best candidate, `verified: false`.
        """
        if not trace.get_current_span().is_recording():
            direct, outcome, fresh = await self._resolve(raw)
            _count(direct, remembered=outcome is not None and not fresh)
            return direct
        with tracer.start_as_current_span("resolve") as span:
            direct, outcome, fresh = await self._resolve(raw)
            _count(direct, remembered=outcome is not None and not fresh)
            span.set_attribute("kind", direct.video.kind if direct.video else f"unavailable: {direct.unavailable}")
            span.set_attribute("stage", outcome.stage if outcome else -1)
            span.set_attribute("requests", outcome.requests if outcome and fresh else 0)
            return direct

    async def _resolve(self, raw: RawMedia) -> tuple[DirectMedia, Outcome | None, bool]:
        variants = tuple(item for item in of_video(raw.variants, raw.signature) if is_media(item.url))
        if not variants and raw.embed_url:
            return links.embed(raw), None, False
        if variants and not self._prober.allowed(item.url for item in variants):
            return links.unavailable(raw, "host_not_allowed"), None, False
        urls = frozenset(item.url for item in variants)
        find = partial(self._find, raw, variants)
        fresh = raw.signature not in self._outcomes
        outcome = await self._outcomes.get(raw.signature, find)
        if not outcome.stands_for(urls):
            fresh = True
            self._outcomes.forget(raw.signature)
            outcome = await self._outcomes.get(raw.signature, find)
        if outcome.link is None:
            return links.unavailable(raw, outcome.reason or "no_media"), outcome, fresh
        if raw.measure and outcome.link.kind is Kind.MP4 and outcome.link.verified:
            outcome = await self._measured(raw, outcome, outcome.link)
        handable = [item for item in variants if self._prober.may_ask(item.url)]
        return links.direct(raw, outcome, handable), outcome, fresh

    async def _find(self, raw: RawMedia, variants: tuple[Variant, ...]) -> Outcome:
        attempt = Attempt(variants, self._prober, self._settings.allow_hevc)
        left = _Budget(self._settings.item_timeout_s)
        file = await self._within(left, attempt.file(), attempt)
        heard = True
        if file is None and self._worth_asking(raw, attempt):
            told, heard = await self._ask_site(raw, attempt)
            if told:
                file = await self._within(left, attempt.file(), attempt)
        if file is not None:
            return self._outcome(attempt, links.of_file(*file), file[0].stage, size_bytes=file[1].size_bytes)
        stream = await self._within(left, attempt.stream(), attempt)
        if stream is not None:
            return self._outcome(attempt, links.of_stream(*stream), 5, settled=heard and attempt.complete)
        guess = attempt.best_guess()
        if guess is not None and guess.url in attempt.answers:
            attempt.served = await self._prober.serves(guess.url, attempt.tally)
            guess = attempt.best_guess()
        if guess is None:
            reason = "gone" if attempt.answers else "no_media"
            return self._outcome(attempt, None, -1, settled=heard and attempt.complete, reason=reason)
        log.warning("unverified", item=raw.item, url=guess.url, unanswered=len(attempt.unanswered))
        return self._outcome(attempt, links.of_guess(guess), guess.stage, settled=False)

    async def _measured(self, raw: RawMedia, outcome: Outcome, link: Alternative) -> Outcome:
        """With what the file itself says, where the site has not told its size or its duration."""
        sized = link.width is not None and link.height is not None
        if sized and raw.duration_ms is not None:
            return outcome
        try:
            async with asyncio.timeout(self._settings.item_timeout_s):
                told = await self._measures.get(link.url, partial(self._measure, link.url))
        except (Unanswered, TimeoutError) as error:
            log.info("not_measured", url=link.url, reason=str(error) or type(error).__name__)
            return outcome
        if not sized:
            link = msgspec.structs.replace(link, width=told.width, height=told.height)
        return msgspec.structs.replace(outcome, link=link, duration_ms=told.duration_ms)

    async def _measure(self, url: str) -> Measure:
        return measure(await self._prober.beginning(url, Tally()))

    def _worth_asking(self, raw: RawMedia, attempt: Attempt) -> bool:
        return self._settings.ask_pins and bool(raw.pin.id) and not attempt.silent and not attempt.cut_short

    async def _ask_site(self, raw: RawMedia, attempt: Attempt) -> tuple[bool, bool]:
        """Whether the site told new addresses, and whether it was heard in full."""
        known = {item.url for item in attempt.variants} | set(attempt.answers)
        asking = self._lookup.media(raw.pin.id or "", raw.signature, known, attempt.tally)
        found, heard = await self._within(_Budget(self._settings.site_wait_s * 2), asking, attempt) or ([], False)
        attempt.widen(Variant(key=ASKED, url=url) for url in found)
        return bool(found), heard

    async def _within(self, left: _Budget, work: Coroutine[Any, Any, T | None], attempt: Attempt) -> T | None:
        started = time.monotonic()
        try:
            async with asyncio.timeout(left.seconds):
                return await work
        except TimeoutError:
            attempt.cut_short = True
            log.warning("item_cut_short", after_s=left.seconds, requests=attempt.tally.requests)
            return None
        finally:
            left.seconds = max(left.seconds - (time.monotonic() - started), 0.0)

    def _outcome(
        self,
        attempt: Attempt,
        link: Alternative | None,
        stage: int,
        *,
        settled: bool = True,
        size_bytes: int | None = None,
        reason: str | None = None,
    ) -> Outcome:
        return Outcome(
            stage=stage,
            requests=attempt.tally.requests,
            link=link,
            reason=reason,
            size_bytes=size_bytes,
            others=tuple(links.of_ladder(ladder) for ladder in attempt.ladders.values() if ladder),
            denied=frozenset(url for url, answer in attempt.answers.items() if not answer.present),
            seen=frozenset(item.url for item in attempt.variants),
            forget_at=None if settled else time.monotonic() + self._settings.unsettled_ttl_s,
        )


def _count(direct: DirectMedia, *, remembered: bool) -> None:
    video = direct.video
    labels = {
        "kind": video.kind if video else NO_KIND,
        "verified": "yes" if video and video.verified else "no",
        "remembered": "yes" if remembered else "no",
    }
    metrics.verifications.add(1, labels)
