"""What pages of other origins may send and read: by preflights, and in a browser, which is what keeps them to it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
import pytest
from playwright.async_api import Page, async_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from libs.common.health import http_server, listen
from libs.common.session_log import SessionLog
from services.gateway.firebase.requests import new_push_id
from services.gateway.openapi import openapi_document
from services.gateway.origins import READ, SENT
from services.gateway.schemas import Schema
from tests.integration.access import GuardedGateway, guarded
from tests.integration.firebase_gateway import begin
from tests.integration.gateway_process import give

CHROMIUM = shutil.which("chromium")  # None: the one that Playwright installed
APP, EVIL = "https://app.example", "https://evil.example"

# path, method, the headers of the request
REQUESTS = [
    ("/sessions/1/status.json", "GET", "if-none-match,x-firebase-etag,accept,authorization"),
    ("/requests.json", "POST", "authorization,content-type"),
    ("/requests/-0.json", "POST", "x-http-method-override,if-match,content-type"),
    ("/requests/-0.json", "PUT", "authorization,content-type"),
    ("/v1/sessions", "POST", "authorization,content-type,idempotency-key"),
    ("/v1/sessions/1", "DELETE", "x-api-key"),
    ("/v1/sessions/1/events", "GET", "accept,authorization,last-event-id"),
]


@pytest.mark.parametrize("named", [APP, "HTTPS://App.Example:443"])
async def test_preflights_of_an_allowed_origin_are_granted_without_credentials(log: SessionLog, named: str) -> None:
    async with (
        guarded(log, allowed_origins=(named,)) as gateway,
        httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False) as client,
    ):
        for path, method, headers in REQUESTS:
            asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
            granted = await client.options(path, headers={"Origin": APP, **asked})
            assert (granted.status_code, granted.headers["access-control-allow-origin"]) == (200, APP), path
            assert method in granted.headers["access-control-allow-methods"].split(", ")
            allowed = granted.headers["access-control-allow-headers"].lower().split(", ")
            assert set(headers.split(",")) <= set(allowed)
            assert "access-control-allow-credentials" not in granted.headers
            assert "Origin" in granted.headers["vary"]
            refused = await client.options(path, headers={"Origin": EVIL, **asked})
            assert refused.status_code == 400
            assert "access-control-allow-origin" not in refused.headers
        unasked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-anything"}
        assert (await client.options("/requests.json", headers={"Origin": APP, **unasked})).status_code == 400


async def test_where_no_origin_is_allowed_no_preflight_is_granted(log: SessionLog) -> None:
    async with (
        guarded(log) as gateway,
        httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False) as client,
    ):
        for path, method, headers in REQUESTS:
            asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
            refused = await client.options(path, headers={"Origin": APP, **asked})
            assert refused.status_code == 405
            assert not [name for name in refused.headers if name.startswith("access-control")]


def test_pages_may_send_and_read_every_header_that_the_document_names() -> None:
    document = msgspec.json.decode(openapi_document(key_needed=True))
    operations: list[Schema] = [
        operation
        for path in document["paths"].values()
        for method, operation in path.items()
        if method in ("get", "post", "delete")
    ]
    sent = {one["name"] for operation in operations for one in operation.get("parameters", []) if one["in"] == "header"}
    read = {name for one in operations for answer in one["responses"].values() for name in answer.get("headers", {})}
    schemes = document["components"]["securitySchemes"].values()
    sent |= {scheme["name"] for scheme in schemes if scheme.get("in") == "header"}
    assert sent >= {"Idempotency-Key", "Last-Event-ID", "X-API-Key"}
    assert read >= {"Location", "Link", "Retry-After"}
    assert (sent - set(SENT), read - set(READ)) == (set(), set())


SCRIPT = """async ([gateway, session, push, draining]) => {
  const told = {};
  const ask = async (name, path, headers, options = {}) => {
    try {
      const answer = await fetch(gateway + path, { headers, ...options });
      const seen = {};
      for (const header of ["ETag", "Location", "Link", "Idempotency-Replayed", "Retry-After", "Allow"])
        if (answer.headers.get(header) !== null) seen[header] = answer.headers.get(header);
      const stream = answer.headers.get("content-type")?.startsWith("text/event-stream");
      const reader = stream ? answer.body.getReader() : null;
      const text = stream ? new TextDecoder().decode((await reader.read()).value) : await answer.text();
      told[name] = [answer.status, seen, text];
      await reader?.cancel();
    } catch (error) {
      told[name] = error.name;
    }
  };
  const followed = (path, type) => new Promise((resolve) => {
    const source = new EventSource(gateway + path);
    const end = (what) => (source.close(), resolve(what));
    source.addEventListener(type, (event) => end(event.data));
    source.onerror = () => end("error");
  });
  const json = { "Content-Type": "application/json" }, body = JSON.stringify({ search_query: "cats" });
  const tree = `/sessions/${session}/stats/found.json`, bearer = { Authorization: "Bearer owner" };
  const post = { method: "POST", body };
  if (!draining) {
    await ask("tagged", tree, { "X-Firebase-ETag": "true", ...bearer });
    await ask("same", tree, { "If-None-Match": told.tagged[1]?.ETag ?? "x" });
    await ask("put", `/requests/${push}.json`, { "X-HTTP-Method-Override": "PUT", ...json }, post);
    await ask("streamed", tree, { Accept: "text/event-stream", ...bearer });
    told.followed = await followed(tree, "put");
    await ask("videos", `/v1/sessions/${session}/videos`, bearer);
    await ask("events", `/v1/sessions/${session}/events`, { "Last-Event-ID": "0", ...bearer });
    told.events_followed = await followed(`/v1/sessions/${session}/events`, "video");
    await ask("wrong", "/v1/webhook-secret", json, post);
    await ask("cookies", "/v1/status", {}, { credentials: "include" });
  }
  await ask("begun", "/v1/sessions", { "Idempotency-Key": push, ...json }, post);
  return told;
}"""


@pytest.fixture
async def pages() -> AsyncIterator[tuple[str, str, Page]]:
    """Two origins that a page can be of, and a page."""

    async def blank(_request: Request) -> HTMLResponse:
        return HTMLResponse("<!doctype html><title>app</title>")

    sock = listen("127.0.0.1", 0)
    port = sock.getsockname()[1]
    async with http_server(Starlette(routes=[Route("/", blank)]), sock), async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield f"http://127.0.0.1:{port}", f"http://localhost:{port}", await browser.new_page()
        await browser.close()


async def run(page: Page, origin: str, gateway: GuardedGateway, session: str, *, draining: bool = False) -> Any:
    """What a page of `origin` is told."""
    await page.goto(origin)
    asked = [f"http://{gateway.address}", session, new_push_id(), draining]
    return await page.evaluate(SCRIPT, asked)


async def test_a_page_of_an_allowed_origin_reads_all_and_one_of_another_nothing(
    log: SessionLog, session: str, pages: tuple[str, str, Page]
) -> None:
    friend, stranger, page = pages
    await begin(log, session)
    await give(log, session, 1)
    async with guarded(log, anonymous="yes", allowed_origins=(friend,), drain_notice_s=0.0) as gateway:
        told = await run(page, friend, gateway, session)
        assert told["tagged"][0::2] == [200, "1"]
        assert told["same"][:2] == [304, told["tagged"][1]]
        assert told["put"][0] == 200
        assert told["streamed"][2].startswith("event: put")
        assert told["followed"] == '{"path":"/","data":1}'
        assert told["videos"][0] == 200 and 'rel="next"' in told["videos"][1]["Link"]
        assert told["events"][0] == 200 and told["events"][2].startswith("retry:")
        assert session in told["events_followed"]
        assert (told["wrong"][0], set(told["wrong"][1]["Allow"].split(", "))) == (405, {"GET", "HEAD"})
        assert told["begun"][:2] == [
            201,
            {"Location": told["begun"][1]["Location"], "Idempotency-Replayed": "false"},
        ]
        assert told["cookies"] == "TypeError"
        strange = await run(page, stranger, gateway, session)
        errors = {name: "error" if "followed" in name else "TypeError" for name in told}
        assert strange == errors
        await gateway.rest.drain()
        told = await run(page, friend, gateway, session, draining=True)
        assert told["begun"][:2] == [503, {"Retry-After": "1"}]
