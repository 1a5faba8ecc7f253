"""Gateways as commands ask them over HTTP: the first of several that answers."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec

from libs.client.errors import GatewayUnreachable, RequestRefused

TIMEOUT_S = 10.0

Document = dict[str, Any]


def addresses(urls: str, path: str) -> list[str]:
    """Where `path` is at gateways with these WebSockets. Raises ValueError."""
    found = []
    for url in (part.strip() for part in urls.split(",") if part.strip()):
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss", "http", "https") or not parts.netloc:
            raise ValueError(f"{url} is no address of a gateway, such as ws://127.0.0.1:8080/ws")
        scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
        found.append(f"{scheme}://{parts.netloc}{parts.path.removesuffix('/ws').rstrip('/')}{path}")
    if not found:
        raise ValueError("the address of a gateway is needed")
    return found


def gateways(api_key: str | None) -> httpx2.AsyncClient:
    """A client that trusts whom this machine does, SSL_CERT_FILE too, as that of the WebSocket does."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    trusted = ssl.create_default_context()
    return httpx2.AsyncClient(headers=headers, timeout=TIMEOUT_S, trust_env=False, verify=trusted)


async def ask(client: httpx2.AsyncClient, places: list[str]) -> Document:
    """The document of the first gateway that answers. Raises GatewayUnreachable, or RequestRefused with the reason."""
    why = ""
    for place in places:
        try:
            answer = await client.get(place)
        except httpx2.HTTPError as error:
            why = str(error) or type(error).__name__
            continue
        document: Document = {}
        with suppress(msgspec.DecodeError):
            document = msgspec.json.decode(answer.content, type=Document)
        if answer.status_code == 200 and document:
            return document
        if answer.status_code == 401:
            raise RequestRefused("unauthorized", "a key is needed: set PINSTREAM_API_KEY; see docs/access.md")
        if answer.status_code == 403:
            raise RequestRefused(str(document.get("code", "forbidden")), str(document.get("detail", "it is refused")))
        why = f"it answers {answer.status_code}"
    raise GatewayUnreachable(f"no gateway tells of this at {' or '.join(places)}: {why}")
