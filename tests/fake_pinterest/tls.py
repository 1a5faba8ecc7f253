"""A certificate authority of its own, for the real host names."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

NAMES = (
    "pinterest.com",
    "*.pinterest.com",
    "pinimg.com",
    "*.pinimg.com",
    "pin.it",
    "localhost",
    "127.0.0.1",
)
_COUNTRIES = [
    "at",
    "ca",
    "ch",
    "cl",
    "co.kr",
    "co.uk",
    "com.au",
    "com.mx",
    "de",
    "dk",
    "es",
    "fr",
    "ie",
    "it",
    "jp",
    "nz",
    "ph",
    "pt",
    "se",
]


def make_certificates(folder: Path) -> tuple[Path, Path]:
    """Writes the authority's certificate and the server's chain with its key; gives their paths."""
    authority = trustme.CA()
    names = (name for country in _COUNTRIES for name in (f"pinterest.{country}", f"*.pinterest.{country}"))
    certificate = authority.issue_cert(*NAMES, *names)
    ca_file, chain_file = folder / "ca.pem", folder / "server.pem"
    authority.cert_pem.write_to_path(ca_file)
    certificate.private_key_and_cert_chain_pem.write_to_path(chain_file)
    return ca_file, chain_file


def server_context(chain_file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain_file)
    return context
