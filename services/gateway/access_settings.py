"""Who may use the gateway, and from where: the settings."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from libs.common.errors import StartFailed
from libs.common.settings import SiteSettings

ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA"}
    | {"HS256", "HS384", "HS512"}
)


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine and nobody else's."""
    host = host.strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def trusted_networks(proxies: Sequence[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Those of addresses and networks, without bits beyond them; IPv4 also as a socket of IPv6 has it."""
    found = []
    for proxy in proxies:
        network = ipaddress.ip_network(proxy, strict=False)
        found.append(network)
        if network.version == 4:
            found.append(ipaddress.ip_network(f"::ffff:{network.network_address}/{96 + network.prefixlen}"))
    return found


class AccessSettings(SiteSettings, frozen=True, kw_only=True):
    """Beside those of the gateway itself."""

    anonymous: Annotated[
        Literal["loopback", "yes", "no"],
        Meta(description="whether clients need no key: loopback: where only this machine can connect"),
    ] = "loopback"
    tls_cert_file: Annotated[
        str | None, Meta(description="PEM file of the certificate and its chain: then it is wss:// and https://")
    ] = None
    tls_key_file: Annotated[str | None, Meta(description="PEM file of its private key")] = None
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(description="addresses or networks of proxies whose X-Forwarded-For and -Proto are believed"),
    ] = ()
    allowed_origins: Annotated[
        tuple[str, ...],
        Meta(description="other origins whose pages may connect, such as https://app.example; its own always may"),
    ] = ()
    jwks_file: Annotated[str | None, Meta(description="file of the keys (JWKS) that sign JWTs")] = None
    jwks_url: Annotated[str | None, Meta(description="address of the keys (JWKS) that sign JWTs")] = None
    jwt_algorithms: Annotated[tuple[str, ...], Meta(description="algorithms of JWTs that are accepted")] = (
        "RS256",
        "ES256",
        "Ed25519",
        "EdDSA",
    )
    jwt_issuer: Annotated[str | None, Meta(description="who has to have issued a JWT (iss)")] = None
    jwt_audience: Annotated[str | None, Meta(description="for whom a JWT has to be (aud)")] = None
    jwt_leeway_s: Annotated[int, Meta(ge=0, le=300, description="how far clocks may differ")] = 30
    jwks_refresh_s: Annotated[float, Meta(gt=0, description="how often the keys are looked up again")] = 300.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tls_cert_file", "tls_key_file", "jwks_file"):
            path = getattr(self, name)
            if path and not Path(path).is_file():
                raise ValueError(f"{name.upper()}: {path!r} is not a file")
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise ValueError("TLS_CERT_FILE and TLS_KEY_FILE belong together")
        if unknown := set(self.jwt_algorithms) - ALGORITHMS:
            raise ValueError(f"JWT_ALGORITHMS: {', '.join(sorted(unknown))} is not known, or signs nothing")
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError as error:
                raise ValueError(f"TRUSTED_PROXIES: {proxy!r} is neither an address nor a network") from error
        for origin in self.allowed_origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
                raise ValueError(f"ALLOWED_ORIGINS: {origin!r} is not an origin such as https://app.example")
        self._check_jwt()

    def _check_jwt(self) -> None:
        if not (self.jwks_file or self.jwks_url):
            return
        if self.jwks_file and self.jwks_url:
            raise ValueError("JWKS_FILE and JWKS_URL exclude each other")
        if self.jwks_url:
            parts = urlsplit(self.jwks_url)
            secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
            if not secure:
                raise ValueError("JWKS_URL: must be an https:// address: who answers it decides who may come in")
        if not (self.jwt_issuer and self.jwt_audience):
            raise ValueError("JWT_ISSUER and JWT_AUDIENCE are needed with JWKS_FILE or JWKS_URL")

    @property
    def anonymous_allowed(self) -> bool:
        """Whether who has no key may search, wherever they are."""
        return self.anonymous == "yes" or (self.anonymous == "loopback" and self.here_alone)

    @property
    def anonymous_allowed_here(self) -> bool:
        """Whether who has no key may search from this machine, though a proxy lets others in."""
        return self.anonymous_allowed or (self.anonymous == "loopback" and is_loopback(self.listens_on))

    @property
    def here_alone(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.listens_on) and not self.trusted_proxies

    @property
    def listens_on(self) -> str:
        """The address that clients connect to."""
        return "127.0.0.1"


def check_exposure(settings: AccessSettings) -> None:
    """Raises StartFailed where everybody could use what this machine offers, over a connection that all can read."""
    if settings.anonymous != "yes" or is_loopback(settings.listens_on):
        return
    if not settings.tls_cert_file and not settings.trusted_proxies:
        raise StartFailed(
            f"ANONYMOUS=yes on {settings.listens_on}, which others can reach, needs TLS_CERT_FILE and TLS_KEY_FILE, "
            "or TRUSTED_PROXIES where a proxy has the certificate; or make keys with `pinstream keys create`"
        )
