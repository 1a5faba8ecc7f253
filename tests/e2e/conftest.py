"""The stand-in site and the whole system, as processes of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest

from libs.client.local import LocalOptions, LocalStack
from tests.fake_pinterest import RunningSite, running_site
from tests.patient import PATIENT

Stack = Callable[..., Awaitable[LocalStack]]


@pytest.fixture(scope="session")
def site() -> Iterator[RunningSite]:
    """The stand-in under its own origin, with the latencies of a near site."""
    with running_site(latency_ms=20, cdn_latency_ms=5) as site:
        yield site


@pytest.fixture
async def stack_of(site: RunningSite) -> AsyncIterator[Stack]:
    """Starts the system, against the stand-in unless told otherwise; after the test nothing of it is left."""
    async with AsyncExitStack() as running:

        async def start(**options: Any) -> LocalStack:
            options.setdefault("site_url", site.origin)
            options.setdefault("media_hosts", urlsplit(site.origin).netloc)
            environ = {**PATIENT, **options.pop("environ", {})}
            return await running.enter_async_context(LocalStack(LocalOptions(environ=environ, **options)))

        yield start
