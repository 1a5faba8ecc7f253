"""What raw media says for certain of a video, before anybody has asked the CDN. Pure."""

from __future__ import annotations

import msgspec

from libs.common.filters import MEASURED, Facts, orientation_of, unmet
from libs.common.messages import Filters, RawMedia, Variant

WHOLE_LADDER = "V_HLSV4"  # its size is the ladder's largest


def passed_over(filters: Filters, raw: RawMedia) -> str | None:
    """The filter that `raw` cannot pass, whatever is found out later; an embed's size and duration nobody finds."""
    return unmet(filters, known(raw), MEASURED if raw.variants else frozenset())


def to_measure(filters: Filters) -> bool:
    """Whether they ask for what a file itself may have to be looked at for."""
    asked = msgspec.to_builtins(filters)  # what is unset is left out
    return not MEASURED.isdisjoint(asked)


def known(raw: RawMedia) -> Facts:
    """What is settled; `height` is the most that a file of it can have."""
    sized = [variant for variant in raw.variants if variant.width and variant.height]
    lies = {orientation_of(variant.width, variant.height) for variant in sized}
    bounded = any(_is_bound(variant) for variant in sized)
    return Facts(
        duration_ms=raw.duration_ms,
        height=max(variant.height or 0 for variant in sized) if bounded else None,
        orientation=lies.pop() if len(lies) == 1 else None,
        captions=bool(raw.captions),
        promoted=raw.pin.promoted if raw.pin.id else None,
        created_at=raw.pin.created_at,
    )


def _is_bound(variant: Variant) -> bool:
    """Whether nothing of this video is larger: the legacy family gives the source's size, and enlarges nothing."""
    return "/videos/mc/" in variant.url or variant.key == WHOLE_LADDER
