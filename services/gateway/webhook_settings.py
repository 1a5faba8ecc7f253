"""What is posted to receivers of webhooks, and how patiently: the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from services.gateway.limit_settings import LimitSettings

LEAST_KEY = 32  # characters


class WebhookSettings(LimitSettings, frozen=True, kw_only=True):
    """Beside those of the gateway itself."""

    webhooks: Annotated[
        bool, Meta(description="whether `callback_url` is taken, and this gateway posts what is due (true, false)")
    ] = True
    webhook_keys: Annotated[
        tuple[str, ...],
        Meta(
            description="what the secrets of webhooks are made from, the same at every gateway; the first is shown, "
            "all sign, so that a new one can be put before; unset: one that the gateways share through the broker"
        ),
    ] = ()
    webhook_private_hosts: Annotated[
        tuple[str, ...],
        Meta(description="receivers that may have private addresses and http://, as host, suffix or host:port"),
    ] = ()
    webhook_proxy: Annotated[
        str | None,
        Meta(description="HTTP proxy for webhooks, which has to refuse private addresses itself; see docs/webhooks.md"),
    ] = None
    webhook_ca_file: Annotated[
        str | None, Meta(description="PEM file of further certificate authorities of receivers")
    ] = None
    webhook_interval_s: Annotated[
        float, Meta(ge=0, description="from one batch of a session to the next, but for the first and for full ones")
    ] = 1.0
    webhook_batch: Annotated[int, Meta(ge=1, le=1000, description="videos of one batch at most")] = 100
    webhook_timeout_s: Annotated[
        float, Meta(gt=0, le=60, description="how long a receiver may take, from the look-up of its name to its answer")
    ] = 10.0
    webhook_retry_s: Annotated[
        float, Meta(gt=0, description="after a first failure; then twice as long each time, to five minutes")
    ] = 1.0
    webhook_give_up_s: Annotated[
        float, Meta(gt=0, description="a receiver that fails for so long is given up; less than RESULTS_MAX_AGE_S")
    ] = 21_600.0
    webhook_posts: Annotated[int, Meta(ge=1, description="posts of this gateway under way at once")] = 64
    webhook_posts_per_host: Annotated[int, Meta(ge=1, description="the same, to any one host")] = 8
    webhook_posts_per_caller: Annotated[int, Meta(ge=1, description="the same, for any one key or address")] = 16
    webhook_sessions: Annotated[
        int, Meta(ge=1, description="sessions with webhooks that this gateway watches at once; others wait")
    ] = 1000
    webhook_sessions_per_caller: Annotated[
        int, Meta(ge=1, description="sessions of one key or address of which something is still to be posted")
    ] = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.webhook_ca_file and not Path(self.webhook_ca_file).is_file():
            raise ValueError(f"WEBHOOK_CA_FILE: {self.webhook_ca_file!r} is not a file")
        if any(len(key) < LEAST_KEY for key in self.webhook_keys):
            raise ValueError(f"WEBHOOK_KEYS: each must have {LEAST_KEY} characters or more")
        if self.webhook_proxy is not None:
            parts = urlsplit(self.webhook_proxy)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("WEBHOOK_PROXY: must be an address such as http://proxy.internal:3128")
