"""Origins: whose pages may use the gateway. A browser tells the origin of the page; other clients tell none.

Who listens on this machine alone is also asked by which name it was called: a page of a name that was made to lead here
(DNS rebinding) counts as of the same origin, and would else use what needs no key here.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common.frames import CloseCode
from services.gateway.access_settings import AccessSettings, is_loopback
from services.gateway.refusals import refuse

READING = frozenset({"GET", "HEAD", "OPTIONS"})
PROBES = frozenset({"/healthz", "/readyz"})
PREFLIGHT_S = 600
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
DEFAULT_PORTS = {"http": 80, "https": 443}

# What pages may send and read beyond what each page may (https://fetch.spec.whatwg.org/#cors-safelisted-request-header;
# Accept is such a one). Without a header in the first list the request is not made, without one in the second the page
# does not see it.
SENT = (
    *("Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", "Last-Event-ID"),
    *("If-Match", "If-None-Match", "X-Firebase-ETag", "X-HTTP-Method-Override"),
)
READ = (
    *("Location", "Link", "Idempotency-Replayed", "Retry-After", "Content-Disposition", "WWW-Authenticate", "Allow"),
    "ETag",
)


class Origins:
    """ASGI middleware: 403, or the close 4503, to pages that may not."""

    def __init__(self, app: ASGIApp, settings: AccessSettings) -> None:
        self.app = app
        self.allowed = frozenset(map(as_told, settings.allowed_origins))
        self.hosts = frozenset(urlsplit(origin).hostname for origin in self.allowed)
        self.here_alone = settings.here_alone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] in ("http", "websocket") and (why := self._amiss(scope)):
            await refuse(scope, receive, send, 403, CloseCode.FORBIDDEN_ORIGIN, "forbidden_origin", why)
            return
        await self.app(scope, receive, send)

    def _amiss(self, scope: Scope) -> str | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in (b"origin", b"host")}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if self.here_alone and scope["path"] not in PROBES and not self._is_here(host):
            return "this gateway is for its own machine, and has no such name; see ALLOWED_ORIGINS"
        if origin is None or origin.lower() in self.allowed:
            return None
        if scope["type"] == "http" and scope["method"] in READING:
            return None  # without the headers of CORS the page cannot read the answer
        secure = scope["scheme"] in ("https", "wss")
        if origin.lower() == f"{'https' if secure else 'http'}://{host.lower()}":
            return None
        return "pages of this origin may not use this gateway; see ALLOWED_ORIGINS"

    def _is_here(self, host: str) -> bool:
        name = called(host)
        return name is not None and (not name or is_loopback(name) or name in self.hosts)


def called(host: str) -> str | None:
    """The name in a header Host; None where it is no host at all."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return None


def as_told(origin: str) -> str:
    """An origin of the settings as browsers tell it: in small letters, without the port that its scheme has anyway."""
    parts = urlsplit(origin.lower())
    return origin.lower().removesuffix(f":{DEFAULT_PORTS[parts.scheme]}")


def cross_origin(settings: AccessSettings) -> list[Middleware]:
    """Origins, and CORS for those that are allowed; no credentials are taken that a browser would add by itself."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=tuple(map(as_told, settings.allowed_origins)),
        allow_methods=METHODS,
        allow_headers=SENT,
        expose_headers=READ,
        max_age=PREFLIGHT_S,
    )
    return [Middleware(Origins, settings), *([cors] if settings.allowed_origins else [])]
