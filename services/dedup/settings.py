"""What the dedup service is told."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from libs.common.settings import Settings


class DedupSettings(Settings, frozen=True, kw_only=True):
    """Beside the common ones."""

    items: Annotated[int, Meta(ge=1, description="items settled at the same time")] = 256
    handle_limit_s: Annotated[
        float, Meta(gt=0, description="longest that one item may take; then it has failed, and is tried again")
    ] = 120.0
