"""A `callback_url`, read once and for all: what is checked is what is connected to."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

import httpx2

from libs.common.errors import PinstreamError
from libs.common.frames import MAX_CALLBACK_CHARS
from libs.common.hosts import Hosts
from services.gateway.webhook_settings import WebhookSettings
from services.gateway.webhooks.addresses import Reach, reach

DEFAULT_PORTS = {"http": 80, "https": 443}
FREE_PORTS = 1024  # those below are other protocols'

_unseemly = re.compile(r"[\x00-\x20\x7f\\]")
_userinfo = re.compile(r"[^/?#]*//[^/?#]*@")
MOST_PORT = 65535
_number = re.compile(r"\d+|0[xX][0-9a-fA-F]*")


class NotATarget(PinstreamError):
    """An address that nothing can be posted to."""


class Target(NamedTuple):
    """Where to post; `host` in ASCII, an IPv6 address without brackets."""

    scheme: str
    host: str
    port: int
    path: bytes  # with its query

    @property
    def place(self) -> str:
        """Host and port, which is what may be logged of it: paths and queries may hold secrets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def target_of(text: str) -> Target:
    """The target that `text` names. Raises NotATarget, whose sentence goes on after `callback_url`."""
    if len(text) > MAX_CALLBACK_CHARS:
        raise NotATarget(f"has {len(text)} characters; {MAX_CALLBACK_CHARS} are the most")
    if _unseemly.search(text):
        raise NotATarget("must have no spaces, control characters or backslashes")
    try:
        url = httpx2.URL(text)
        host = url.raw_host.decode("ascii").strip("[]").rstrip(".").lower()
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise NotATarget("is not an address") from error
    if url.scheme not in DEFAULT_PORTS or not host:
        raise NotATarget("must be an address such as https://receiver.example/hooks")
    if _userinfo.match(text):
        raise NotATarget("must have no user name or password in it; what is posted is signed")
    if url.fragment:
        raise NotATarget("must have no fragment, for it would not be sent")
    port = DEFAULT_PORTS[url.scheme] if url.port is None else url.port
    if port != DEFAULT_PORTS[url.scheme] and not FREE_PORTS <= port <= MOST_PORT:
        raise NotATarget(f"must have the port {DEFAULT_PORTS[url.scheme]}, or one from {FREE_PORTS} to {MOST_PORT}")
    if "%" in host or (literal(host) is None and _number.fullmatch(host.rpartition(".")[2])):
        raise NotATarget("must have a name, or an address as it is usually written")
    return Target(url.scheme, host, port, url.raw_path)


def literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is, where it is no name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


class Receivers:
    """Who may be posted to: what is public over https, and what `private_hosts` name; nobody where it is not `on`."""

    def __init__(self, private_hosts: tuple[str, ...] = (), *, on: bool = True) -> None:
        self.on = on
        self._private = Hosts(private_hosts)

    def private(self, target: Target) -> bool:
        """Whether the target may have a private address, and do without TLS."""
        return self._private.has(target.host, target.port)

    def amiss(self, url: str) -> str | None:
        """What is wrong with a `callback_url`, as far as can be told without asking for the host's addresses."""
        if not self.on:
            return "cannot be given: this gateway posts no webhooks"
        try:
            target = target_of(url)
        except NotATarget as error:
            return str(error)
        if self.private(target):
            return None
        if target.scheme != "https":
            return "must be an https:// address"
        address = literal(target.host)
        local = target.host == "localhost" or target.host.endswith(".localhost")
        if local or (address is not None and reach(address) is not Reach.PUBLIC):
            return "must be on a public address; WEBHOOK_PRIVATE_HOSTS names those that need not be"
        return None


def receivers_of(settings: WebhookSettings) -> Receivers:
    """Those that `settings` allow."""
    return Receivers(settings.webhook_private_hosts, on=settings.webhooks)
