"""Whose pages may use the gateway, and what its answers tell a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from libs.common.health import listen
from libs.common.session_log import SessionLog
from services.gateway.app import gateway_app
from services.gateway.server import client_server
from tests.integration.access import GuardedGateway, ask, guarded

APP = "https://app.example"


@pytest.fixture
async def gateway(log: SessionLog) -> AsyncIterator[GuardedGateway]:
    async with guarded(log, anonymous="loopback", allowed_origins=(APP,)) as gateway:
        yield gateway


async def outcome(gateway: GuardedGateway, **headers: str) -> str | int | None:
    """`pong`, or the code of the close."""
    async with connect(gateway.url, additional_headers=headers) as client:
        try:
            return str((await ask(client, "ping"))["event"])
        except ConnectionClosed:
            return client.close_code


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "https://app.example.evil"])
async def test_pages_of_other_origins_are_refused(gateway: GuardedGateway, origin: str) -> None:
    assert await outcome(gateway, Origin=origin) == 4503
    async with connect(f"ws://{gateway.address}/.ws?v=5&ns=x", additional_headers={"Origin": origin}) as client:
        await client.wait_closed()
        assert client.close_code == 4503
    assert (await gateway.post("/v1/tickets", origin=origin)).status_code == 403


async def test_its_own_pages_those_allowed_and_who_is_no_browser_may(gateway: GuardedGateway) -> None:
    assert await outcome(gateway, Origin=f"http://{gateway.address}") == "pong"
    assert await outcome(gateway, Origin=APP) == "pong"
    assert await outcome(gateway) == "pong"
    assert (await gateway.post("/v1/tickets", origin=APP)).status_code == 201


async def test_a_name_that_was_made_to_lead_here_is_not_this_machine(gateway: GuardedGateway) -> None:
    port = gateway.address.rsplit(":", 1)[1]
    async with httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False) as client:
        for host, status in ((f"evil.example:{port}", 403), (f"localhost:{port}", 200), ("app.example", 200)):
            assert (await client.get("/", headers={"Host": host})).status_code == status
        evil = {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"}
        assert (await client.post("/v1/tickets", headers=evil)).status_code == 403
        assert (await client.get("/healthz", headers={"Host": "evil.example"})).status_code == 200
        broken = await client.get("/", headers={"Host": "[::1"})
        assert (broken.status_code, broken.headers["x-content-type-options"]) == (403, "nosniff")


async def test_no_answer_leads_to_a_host_that_a_request_names(log: SessionLog) -> None:
    async with (
        guarded(log, anonymous="yes", trusted_proxies=("127.0.0.1",)) as gateway,
        httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False) as client,
    ):
        for path in ("/docs/", "/v1/sessions/", "/static"):
            answer = await client.get(path, headers={"Host": "evil.example"})
            assert (answer.status_code, answer.headers.get("location")) == (404, None)


async def test_cors_names_the_allowed_origin_and_takes_no_credentials(gateway: GuardedGateway) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "Authorization"}
    async with httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False) as client:
        allowed = await client.options("/v1/tickets", headers={"Origin": APP, **asked})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, APP)
        assert "access-control-allow-credentials" not in allowed.headers
        other = await client.options("/v1/tickets", headers={"Origin": "https://evil.example", **asked})
        assert "access-control-allow-origin" not in other.headers
        refused = await client.post("/v1/tickets", headers={"Origin": APP, "X-API-Key": "wrong"})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, APP)


async def test_answers_carry_the_headers_that_keep_a_page_to_itself(gateway: GuardedGateway) -> None:
    async with httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False) as client:
        for path in ("/", "/static/app.js", "/healthz", "/nowhere"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert "strict-transport-security" not in headers
        page = (await client.get("/")).text
        assert "<style" not in page and "<script>" not in page and " style=" not in page


async def test_so_does_an_answer_that_the_gateway_failed(gateway: GuardedGateway) -> None:
    sock = listen("127.0.0.1", 0)
    app = gateway_app(gateway.endpoint, gateway.rest, {"broken": lambda: bool(1 / 0)}, gateway.firebase)
    async with client_server(app, sock, 5.0), httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{sock.getsockname()[1]}/readyz")
        assert (answer.status_code, answer.headers["x-content-type-options"]) == (500, "nosniff")
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("host", "proxy"), [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "127.0.0.5/8"), ("::", "127.0.0.1")]
)
async def test_behind_a_proxy_that_has_the_certificate_browsers_are_told_to_stay_with_tls(
    log: SessionLog, host: str, proxy: str
) -> None:
    async with (
        guarded(log, anonymous="yes", gateway_host=host, trusted_proxies=(proxy,)) as gateway,
        httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False) as client,
    ):
        secure = await client.get("/", headers={"X-Forwarded-Proto": "https"})
        assert secure.headers["strict-transport-security"].startswith("max-age=")
        assert "strict-transport-security" not in (await client.get("/")).headers
        headers = {"X-Forwarded-Proto": "https", "Host": "pins.example", "Origin": "https://pins.example"}
        assert (await client.post("/v1/tickets", headers=headers)).status_code == 201
        headers["Origin"] = "http://pins.example"
        assert (await client.post("/v1/tickets", headers=headers)).status_code == 403
