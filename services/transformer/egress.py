"""What may leave this service: the HTTP client and the hosts it may reach."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urljoin

import httpx2

from libs.common.hosts import Hosts
from services.transformer.settings import TransformerSettings

USER_AGENT = "Mozilla/5.0 (compatible; pinstream/0.1)"
SITE_CONNECTIONS = 16  # for requests to the site, beside those to the CDN
REDIRECTS = (301, 302, 303, 307, 308)
_SIGNATURE = re.compile(r"[0-9a-f]{32}", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Allowed:
    """The hosts that media may be on: `pinimg.com` is a suffix, `127.0.0.1:8800` is exact."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = Hosts(hosts)

    def __contains__(self, url: object) -> bool:
        parsed = parse(str(url))
        if parsed is None or parsed.userinfo:
            return False
        return self._hosts.has(parsed.host, parsed.port or _DEFAULT_PORTS[parsed.scheme])


@lru_cache(maxsize=4096)
def parse(url: str) -> httpx2.URL | None:
    """`url` as the client itself reads it; None where it is no address of a web server. Parsing costs 80 µs."""
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        return None
    return parsed if parsed.scheme in _DEFAULT_PORTS and parsed.host else None


def client(settings: TransformerSettings) -> httpx2.AsyncClient:
    """A pooled client for all that leaves: the proxy and the further CAs apply, the environment does not."""
    return httpx2.AsyncClient(
        http2=True,
        verify=trust(settings.upstream_ca_file),
        proxy=settings.upstream_proxy,
        trust_env=False,
        follow_redirects=False,
        timeout=settings.request_timeout_s,
        limits=httpx2.Limits(max_connections=settings.probes + SITE_CONNECTIONS, keepalive_expiry=30.0),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
    )


def trust(ca_file: str | None) -> ssl.SSLContext:
    """The usual authorities and those in `ca_file`."""
    context = httpx2.create_ssl_context(trust_env=False)
    if ca_file:
        context.load_verify_locations(ca_file)
    return context


def same_host_target(url: str, location: str | None) -> str | None:
    """Where a redirect of a media address may be followed to: the same host, and still the same video."""
    if not location:
        return None
    target = urljoin(url, location)
    before, after = parse(url), parse(target)
    if before is None or after is None:
        return None
    signature = _SIGNATURE.search(before.path)
    if signature and signature[0].lower() not in after.path.lower():
        return None
    here, there = (before.scheme, before.host, before.port), (after.scheme, after.host, after.port)
    return target if here == there else None
