"""The certificate for TLS, from files that may be replaced while clients are connected."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import structlog

from libs.common.errors import StartFailed
from services.gateway.access_settings import AccessSettings

LOOK_EVERY_S = 1.0

log = structlog.get_logger()


class Certificate:
    """New connections get what the files hold; those that stand keep what they have."""

    def __init__(self, cert_file: str, key_file: str) -> None:
        self.cert_file, self.key_file = cert_file, key_file
        self._seen = self._state()
        try:
            self.context = self._loaded()
        except (OSError, ssl.SSLError) as error:
            raise StartFailed(f"{cert_file} and {key_file} are no certificate and its key: {error}") from error

    async def watch(self) -> None:
        """Until cancelled. A pair that does not fit, for its files are replaced one after the other, is passed over."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = self._state()
            if now == self._seen:
                continue
            try:
                self._loaded()
                self.context.load_cert_chain(self.cert_file, self.key_file)
            except (OSError, ssl.SSLError) as error:
                log.error("the new certificate cannot be used; the old one stays", error=str(error))
            else:
                log.info("a new certificate is in use", file=self.cert_file)
            self._seen = now

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.cert_file, self.key_file)
        return context

    def _state(self) -> tuple[tuple[int, int, int], ...]:
        found = []
        for name in (self.cert_file, self.key_file):
            try:
                stat = Path(name).stat()
                found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
            except OSError:
                found.append((0, 0, 0))
        return tuple(found)


def certificate_of(settings: AccessSettings) -> Certificate | None:
    """That of `settings`, if they name one. Raises StartFailed where it cannot be used."""
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return Certificate(settings.tls_cert_file, settings.tls_key_file)
