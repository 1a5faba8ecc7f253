"""What the gateway is told."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from libs.common.settings import Port
from services.gateway.webhook_settings import WebhookSettings


class GatewaySettings(WebhookSettings, frozen=True, kw_only=True):
    """Beside the common ones; /healthz and /readyz are on the gateway's own port too, /metrics at HEALTH_PORT alone."""

    gateway_host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    gateway_port: Annotated[Port, Meta(description="port to listen on; 0 for a free one")] = 8080
    session_deadline_s: Annotated[
        float, Meta(gt=0, le=3000, description="a session ends after this long at the latest, with what was found")
    ] = 600.0
    sessions_per_connection: Annotated[int, Meta(ge=1, description="sessions followed over one WebSocket")] = 100
    send_timeout_s: Annotated[
        float,
        Meta(
            gt=0,
            description="a client that takes nothing for this long is closed; it can resume",
        ),
    ] = 10.0
    events_heartbeat_s: Annotated[
        float, Meta(gt=0, description="server-sent events that are silent for so long get a comment, for proxies")
    ] = 15.0
    drain_notice_s: Annotated[
        float,
        Meta(ge=0, description="after SIGTERM clients are served so long while readiness fails; new searches are not"),
    ] = 0.5
    storage_check_s: Annotated[
        float, Meta(gt=0, description="how often it is looked whether the broker stores records, while it may not")
    ] = 2.0

    measure_s: Annotated[
        float, Meta(gt=0, description="how often queues, streams and the site's pace are read for the metrics")
    ] = 5.0

    @property
    def listens_on(self) -> str:
        """The address that clients connect to."""
        return self.gateway_host
