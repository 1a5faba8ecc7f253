"""The stand-in site and the whole system, as processes of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from libs.client.local import LocalOptions, LocalStack
from tests.fake_pinterest import RunningSite, running_site
from tests.guarded import USERS, guarded_broker, key
from tests.patient import PATIENT

REFUSED = "the broker refused a permission"

Stack = Callable[..., Awaitable[LocalStack]]


@pytest.fixture(scope="session")
def site() -> Iterator[RunningSite]:
    """The stand-in under its own origin, with the latencies of a near site."""
    with running_site(latency_ms=20, cdn_latency_ms=5) as site:
        yield site


@pytest.fixture
async def stack_of(site: RunningSite, tmp_path: Path) -> AsyncIterator[Stack]:
    """Starts the system, against the stand-in unless told otherwise; after the test nothing of it is left.

    Each service is a user of its own at the broker (deploy/nats), and needs no more than it may; not so where `guarded`
    is false, for people's commands without a key.
    """
    broker = guarded_broker(tmp_path)
    async with AsyncExitStack() as running:
        running.callback(broker.stop)
        broker.start()

        async def start(**options: Any) -> LocalStack:
            if options.pop("guarded", True):
                options.setdefault("nats_url", broker.url)
                options.setdefault("environ_of", {user: {"NATS_NKEY_FILE": key(tmp_path, user)} for user in USERS})
            options.setdefault("site_url", site.origin)
            options.setdefault("media_hosts", urlsplit(site.origin).netloc)
            environ = {**PATIENT, **options.pop("environ", {})}
            stack = await running.enter_async_context(LocalStack(LocalOptions(environ=environ, **options)))
            running.callback(_nothing_was_refused, stack)
            return stack

        yield start


def _nothing_was_refused(stack: LocalStack) -> None:
    logs = {service.name: service.log.read_text() for service in stack.services if service.log.exists()}
    refused = [f"{name}: {line}" for name, text in logs.items() for line in text.splitlines() if REFUSED in line]
    assert refused == []
