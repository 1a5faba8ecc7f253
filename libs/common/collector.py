"""Where traces go, and whether anybody is there: a collector may be one that is run when it is wanted."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

LOOK_S = 5.0  # between looks for a collector that was never there
CONNECT_S = 1.0

log = structlog.get_logger()


class WhenThere(SpanExporter):
    """Hands spans to `exporter` from when something listens at `address` on; what was made before is dropped.

    The SDK would try each batch for ten seconds, at the end of the process too, and tell of it four times. Of a
    collector that was there and is gone it does: that is trouble.
    """

    def __init__(self, exporter: SpanExporter, address: str) -> None:
        self._exporter = exporter
        self._address = address
        self._there = _is_proxied(address)  # a proxy may reach what this machine does not
        self._looked_at = float("-inf")
        self._told = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See SpanExporter."""
        if not self._there and not self._look():
            return SpanExportResult.FAILURE
        return self._exporter.export(spans)

    def _look(self) -> bool:
        if time.monotonic() - self._looked_at < LOOK_S:
            return False
        self._there = _listens(self._address)
        self._looked_at = time.monotonic()
        if self._there and self._told:
            log.info("traces are sent", to=self._address)
        elif not self._there and not self._told:
            self._told = True
            log.warning("no traces are sent: nothing listens there yet", address=self._address)
        return self._there

    def shutdown(self) -> None:
        """See SpanExporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """See SpanExporter."""
        return self._exporter.force_flush(timeout_millis)


def _listens(address: str) -> bool:
    parts = urlsplit(address)
    with suppress(OSError, ValueError):
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), CONNECT_S).close()
        return True
    return False


def _is_proxied(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme in getproxies() and not proxy_bypass(parts.hostname or "")
