"""One browser, one gateway and one host of media for all tests of the page."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from libs.common.bus import connect
from libs.common.health import http_server, listen
from libs.common.session_log import SessionLog, session_log
from libs.common.settings import Settings
from tests.e2e.page.steps import CHROMIUM, MEDIA, Gateway, opened

shared = pytest_asyncio.fixture(scope="package", loop_scope="package")


@shared
async def log(nats_url: str) -> AsyncIterator[SessionLog]:
    async with connect(Settings(nats_url=nats_url), "test") as bus, session_log(bus) as log:
        yield log


@shared
async def gateway(nats_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    gateway = Gateway(nats_url, tmp_path_factory.mktemp("gateway") / "log")
    await gateway.start()
    yield gateway
    await gateway.kill()


@shared
async def media() -> AsyncIterator[str]:
    """The origin of a host with real videos, which lets other origins read them, as a CDN does."""
    sock = listen("127.0.0.1", 0)
    app = Starlette(
        routes=[Mount("/", StaticFiles(directory=MEDIA))], middleware=[Middleware(CORSMiddleware, allow_origins=["*"])]
    )
    async with http_server(app, sock):
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


@shared
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="package")
async def page(browser: Browser, gateway: Gateway) -> AsyncIterator[Page]:
    async with opened(browser, gateway.url) as page:
        yield page
