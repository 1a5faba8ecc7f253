"""What is handed on: outcomes, which are a video's, and direct media, which are an item's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from libs.common.messages import Alternative, DirectMedia, Kind, RawMedia, Variant, Video
from services.transformer.address import is_master, suffix
from services.transformer.playlist import Ladder
from services.transformer.resolve import Candidate, listed, listed_in_other_codecs, streams
from services.transformer.verify import Answer

MOST_ALTERNATIVES = 16


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one video, whichever pin carries it: `link`, or the `reason` why there is none.

    `denied` are addresses that the CDN does not have, `seen` those that were known when it was resolved.
    `duration_ms` is the file's own word, where the site gave none.
    `forget_at` (monotonic seconds) is set where a fault of the CDN or the site marred it.
    """

    stage: int
    requests: int
    link: Alternative | None = None
    reason: str | None = None
    size_bytes: int | None = None
    duration_ms: int | None = None
    others: tuple[Alternative, ...] = ()
    denied: frozenset[str] = frozenset()
    seen: frozenset[str] = frozenset()
    forget_at: float | None = None

    def stands_for(self, urls: frozenset[str]) -> bool:
        """Whether it answers for an item that lists `urls`: a verified file always does, less only if all was seen."""
        if self.forget_at is not None and time.monotonic() >= self.forget_at:
            return False
        is_file = self.link is not None and self.link.kind is Kind.MP4 and self.link.verified
        return is_file or urls <= self.seen


def of_file(candidate: Candidate, answer: Answer) -> Alternative:
    return Alternative(
        url=answer.url,
        kind=Kind.MP4,
        verified=True,
        codec=candidate.codec,
        width=candidate.width,
        height=candidate.height,
    )


def of_ladder(ladder: Ladder) -> Alternative:
    width, height = ladder.size
    return Alternative(url=ladder.url, kind=Kind.HLS, verified=True, codec=ladder.codec, width=width, height=height)


def of_stream(candidate: Candidate, ladder: Ladder) -> Alternative:
    """A playlist that was read; what it says of itself goes before what was listed."""
    link = of_ladder(ladder)
    if link.width is None:
        link = msgspec.structs.replace(link, width=candidate.width, height=candidate.height)
    return link


def of_guess(candidate: Candidate) -> Alternative:
    """An address that no request has confirmed."""
    kind = Kind.HLS if suffix(candidate.url) == ".m3u8" else Kind.MP4
    return Alternative(
        url=candidate.url, kind=kind, codec=candidate.codec, width=candidate.width, height=candidate.height
    )


def direct(raw: RawMedia, outcome: Outcome, variants: Sequence[Variant]) -> DirectMedia:
    """The item `raw` with its video's outcome; pin, captions and poster are the item's own."""
    assert outcome.link is not None
    link = outcome.link
    durations = [item.duration_ms for item in variants if item.duration_ms]
    video = Video(
        id=raw.signature,
        url=link.url,
        kind=link.kind,
        verified=link.verified,
        codec=link.codec,
        width=link.width,
        height=link.height,
        duration_ms=raw.duration_ms or max(durations, default=None) or outcome.duration_ms,
        size_bytes=outcome.size_bytes,
        poster_url=raw.poster_url,
        captions=raw.captions,
        alternatives=_alternatives(outcome, link, variants),
        pin=raw.pin,
    )
    return DirectMedia(session=raw.session, item=raw.item, video=video, captured_at=raw.captured_at)


def embed(raw: RawMedia) -> DirectMedia:
    """A video that another site hosts: its player's address, which is never asked for."""
    url = raw.embed_url or ""
    url = f"https:{url}" if url.startswith("//") else url
    if urlsplit(url).scheme not in ("http", "https"):
        return unavailable(raw, "no_media")
    video = Video(
        id=raw.signature,
        url=url,
        kind=Kind.EMBED,
        verified=False,
        width=raw.width,
        height=raw.height,
        duration_ms=raw.duration_ms,
        poster_url=raw.poster_url,
        captions=raw.captions,
        pin=raw.pin,
    )
    return DirectMedia(session=raw.session, item=raw.item, video=video, captured_at=raw.captured_at)


def unavailable(raw: RawMedia, reason: str) -> DirectMedia:
    return DirectMedia(session=raw.session, item=raw.item, unavailable=reason, captured_at=raw.captured_at)


def _alternatives(outcome: Outcome, link: Alternative, variants: Sequence[Variant]) -> list[Alternative]:
    """Verified playlists, then what was listed and not denied, each labelled; rungs of a ladder are left out."""
    whole = [item for item in streams(variants) if is_master(item.url) and item.listed]
    named = [*listed(variants), *whole, *listed_in_other_codecs(variants)]
    found: dict[str, Alternative] = {}
    for item in [*outcome.others, *map(of_guess, named)]:
        if item.url != link.url and item.url not in outcome.denied:
            found.setdefault(item.url, item)
    return list(found.values())[:MOST_ALTERNATIVES]
