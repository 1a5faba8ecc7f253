"""How this process shows the broker who it is, and makes sure who the broker is: nkeys, passwords and TLS, by settings.

Nothing secret is said in what is raised here.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import nkeys
import structlog

from libs.common.errors import StartFailed
from libs.common.settings import Settings

# how the certificates of several libraries and TLS versions are refused, by the server
CERTIFICATE_WANTED = (
    "certificate required",
    "bad certificate",
    "unknown ca",
    "certificate expired",
    "handshake failure",
)
# OpenSSL's X509_V_ERR_…: no issuer is known that is trusted, or its key is another
UNKNOWN_ISSUER = (2, 18, 19, 20, 21)
OTHER_NAME = (62, 64)  # …_HOSTNAME_MISMATCH, …_IP_ADDRESS_MISMATCH

log = structlog.get_logger()


def login(settings: Settings) -> dict[str, Any]:
    """The options of the client by which this process is known; raises StartFailed where the seed is none."""
    if settings.nats_nkey_file is None:
        return {"user": settings.nats_user, "password": settings.nats_password}
    _public_key(settings.nats_nkey_file)
    return {"nkeys_seed": settings.nats_nkey_file}


def _public_key(file: str) -> str:
    try:
        pair = nkeys.from_seed(bytearray(Path(file).read_bytes().strip()))
    except (nkeys.NkeysError, ValueError, OSError):
        raise StartFailed(f"NATS_NKEY_FILE: {file!r} holds no nkey seed") from None
    public: str = pair.public_key.decode()
    pair.wipe()
    return public


def renewed_key(settings: Settings, known: str | None) -> str | None:
    """The public key of the seed as it is now, which may have been replaced; else `known`."""
    if settings.nats_nkey_file is None:
        return known
    try:
        return _public_key(settings.nats_nkey_file)
    except StartFailed as error:
        log.error("the old key is shown on", error=str(error))
        return known


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """What the broker's certificate is checked with, None without TLS; raises StartFailed, naming the setting."""
    if not settings.nats_tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.nats_ca_file)
    except (ssl.SSLError, OSError) as error:
        raise StartFailed(f"NATS_CA_FILE: {settings.nats_ca_file!r} holds no certificates ({error})") from error
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 does by itself: what holds here holds in the images
    if settings.nats_cert_file is not None:
        try:
            context.load_cert_chain(settings.nats_cert_file, settings.nats_key_file, password=_no_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            files = f"{settings.nats_cert_file!r} and {settings.nats_key_file!r}"
            why = f"NATS_CERT_FILE, NATS_KEY_FILE: {files} are no certificate and its key ({error})"
            raise StartFailed(why) from error
    return context


def renewed(settings: Settings, context: ssl.SSLContext | None) -> ssl.SSLContext | None:
    """The same from the files as they are now, which may have been replaced; else `context`."""
    try:
        return tls_context(settings)
    except StartFailed as error:
        log.error("the old certificates are used on", error=str(error))
        return context


def refused(settings: Settings, error: Exception) -> str | None:
    """What to do where `error` says that the broker and this process do not accept each other; else None."""
    said = str(error).lower()
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message}): {_why(settings, error.verify_code)}"
    if isinstance(error, NoTls):
        return f"{error}: NATS_URL, NATS_CA_FILE or NATS_CERT_FILE demand it"
    if any(words in said for words in CERTIFICATE_WANTED):
        if settings.nats_cert_file:
            return f"it does not accept the certificate of NATS_CERT_FILE ({error})"
        return "it asks for a certificate: set NATS_CERT_FILE and NATS_KEY_FILE"
    if "authorization violation" in said:
        by = "the key of NATS_NKEY_FILE" if settings.nats_nkey_file else "NATS_USER and NATS_PASSWORD"
        known = bool(settings.nats_nkey_file or settings.nats_user or "@" in settings.nats_url)
        return f"it does not know {by}" if known else "it wants to know who this is: set NATS_NKEY_FILE"
    return None


def _why(settings: Settings, code: int) -> str:
    if code in OTHER_NAME:
        return "NATS_URL has to name the server as its certificate does"
    if code not in UNKNOWN_ISSUER:
        return "docs/nats.md says how one is made"
    what = "is not the one that issued it" if settings.nats_ca_file else "is not set, and no known authority did"
    return f"NATS_CA_FILE {what}"


class NoTls(OSError):
    """The broker offers no TLS"""


def _no_password() -> str:
    """A key that is encrypted would otherwise have somebody asked at the terminal."""
    raise ValueError("the key is encrypted")
