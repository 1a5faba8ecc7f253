"""One post to a receiver, and what came of it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import httpcore2
import httpx2
from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from libs.common import metrics
from libs.common.telemetry import inject
from services.gateway.version import VERSION
from services.gateway.webhook_settings import WebhookSettings
from services.gateway.webhooks.dialing import Dialer, Refused
from services.gateway.webhooks.target import Receivers, Target

MOST_ANSWER_BYTES = 16 * 1024  # what is longer is not read: it says nothing that is asked for
KEPT_S = 15.0  # a connection between two posts
MOST_WAIT_S = 3600.0  # of what a receiver asks for
MOST_ERROR = 200  # characters
GONE = 410

tracer = trace.get_tracer("services.gateway")


class Post(NamedTuple):
    """What is to be posted; the same `id_` has the same body whenever and by whomever it is posted."""

    id_: str
    kind: str
    body: bytes
    links: Sequence[Link] = ()


class Answer(NamedTuple):
    """What came of it: `outcome` is delivered, gone, refused or failed; `wait_s` is what the receiver asks for."""

    outcome: str
    status: int | None = None
    error: str | None = None
    wait_s: float = 0.0


class Poster:
    """Use `poster`."""

    def __init__(self, client: httpcore2.AsyncConnectionPool, timeout_s: float) -> None:
        self.client, self.timeout_s = client, timeout_s

    async def post(self, target: Target, post: Post, signed: dict[str, str]) -> Answer:
        """Posts, following no redirect; the answer's body is dropped."""
        started = time.monotonic()
        with tracer.start_as_current_span(
            f"POST webhook {post.kind}",
            kind=SpanKind.CLIENT,
            links=post.links,
            attributes={
                "http.request.method": "POST",
                "server.address": target.host,
                "server.port": target.port,
                "pinstream.webhook_id": post.id_,
            },
        ) as span:
            answer = await self._answer(target, post, signed)
            if answer.status is not None:
                span.set_attribute("http.response.status_code", answer.status)
            if answer.error is not None:
                span.set_status(Status(StatusCode.ERROR, answer.error))
                span.set_attribute("error.type", answer.outcome if answer.status is None else str(answer.status))
        metrics.webhook_posts.add(1, {"outcome": answer.outcome})
        metrics.webhook_post_s.record(time.monotonic() - started, {"outcome": answer.outcome})
        return answer

    async def _answer(self, target: Target, post: Post, signed: dict[str, str]) -> Answer:
        own = {"Host": target.place, "Content-Type": "application/json", "User-Agent": f"pinstream-webhooks/{VERSION}"}
        headers = inject({**own, **signed})
        url = httpcore2.URL(
            scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path
        )
        try:
            async with (
                asyncio.timeout(self.timeout_s),
                self.client.stream("POST", url, headers=_lines(headers), content=post.body) as answer,
            ):
                size = 0
                async for part in answer.aiter_stream():
                    size += len(part)
                    if size > MOST_ANSWER_BYTES:
                        break
        except TimeoutError:
            return Answer("failed", error=f"there was no answer within {self.timeout_s:g} s")
        except Refused as error:
            return Answer("refused", error=str(error))
        except (
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.ProxyError,
            httpcore2.TimeoutException,
        ) as error:
            said = " ".join(str(error).split())[:MOST_ERROR]
            return Answer("failed", error=f"{type(error).__name__}: {said}" if said else type(error).__name__)
        return _judged(answer)


def _judged(answer: httpcore2.Response) -> Answer:
    status = answer.status
    if 200 <= status < 300:
        return Answer("delivered", status)
    if status == GONE:
        return Answer("gone", status, "the answer was 410: nothing more is wanted")
    redirect = ", a redirect, which is not followed" if 300 <= status < 400 else ""
    return Answer("failed", status, f"the answer was {status}{redirect}", _asked_wait(answer))


def _asked_wait(answer: httpcore2.Response) -> float:
    """What `Retry-After` says, in seconds; 0 where it says nothing that can be read."""
    told = next((value for name, value in answer.headers if name.lower() == b"retry-after"), b"")
    text = told.decode("ascii", "replace").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return min(float(text), MOST_WAIT_S)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(0.0, at.timestamp() - time.time()), MOST_WAIT_S)


def _lines(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


@asynccontextmanager
async def poster(settings: WebhookSettings, receivers: Receivers) -> AsyncIterator[Poster]:
    """Posts by `settings` meanwhile. Through a proxy it is the proxy that connects, to the name."""
    context = httpx2.create_ssl_context(trust_env=False)
    if settings.webhook_ca_file:
        context.load_verify_locations(settings.webhook_ca_file)
    proxy = None if settings.webhook_proxy is None else _proxy(settings.webhook_proxy)
    async with httpcore2.AsyncConnectionPool(
        context,
        proxy,
        max_connections=settings.webhook_posts,
        keepalive_expiry=KEPT_S,
        network_backend=Dialer(receivers) if proxy is None else None,
    ) as client:
        yield Poster(client, settings.webhook_timeout_s)


def _proxy(url: str) -> httpcore2.Proxy:
    parts = urlsplit(url)
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return httpcore2.Proxy(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", auth)
