"""How much one caller may ask of the gateways: the settings. What is counted is counted over all gateways."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from services.gateway.access_settings import AccessSettings


class LimitSettings(AccessSettings, frozen=True, kw_only=True):
    """Beside those of the gateway itself. Limits of addresses are not kept for this machine's own (loopback)."""

    sessions_most: Annotated[
        int, Meta(ge=1, description="sessions under way or queued, of all callers; beyond it new ones are refused")
    ] = 2000
    sessions_per_key: Annotated[int, Meta(ge=1, description="sessions under way of one key's or token's owner")] = 100
    sessions_per_address: Annotated[int, Meta(ge=1, description="sessions under way of one address without a key")] = 10
    requests_per_minute: Annotated[float, Meta(gt=0, description="requests and new sessions of one owner")] = 600.0
    requests_per_minute_per_address: Annotated[
        float, Meta(gt=0, description="requests and connections of one address, whoever asks")
    ] = 300.0
    connections_per_address: Annotated[int, Meta(ge=1, description="open connections of one address")] = 50
    connections_most: Annotated[int, Meta(ge=1, description="open connections of this gateway")] = 10_000
    messages_per_second: Annotated[
        float, Meta(gt=0, description="messages over one connection; ten seconds' worth may come at once")
    ] = 50.0
    message_max_bytes: Annotated[
        int, Meta(ge=1024, le=4 * 1024 * 1024, description="of one message, and of the body of a request")
    ] = 1024 * 1024
    loop_lag_most_s: Annotated[
        float,
        Meta(ge=0, description="new searches are refused while half of all waits longer for the event loop; 0: never"),
    ] = 1.0
