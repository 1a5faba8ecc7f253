"""No secret is in a log, a span or a metric of the gateway, whichever way it came in, at the level that logs most."""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
from pathlib import Path
from typing import Any

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from libs.common import keys
from libs.common.bus import Bus
from libs.common.health import http_server, listen
from libs.common.session_log import SessionLog
from tests.integration.access import Issuer
from tests.integration.gateway_process import GatewayProcess, finish, give
from tests.integration.receiver import DROP, receiver, status
from tests.integration.test_access import claims
from tests.integration.ways_in import WANTED, every_way
from tests.span_collector import running as running_collector
from tests.wait import wait_until

PIECE = 10  # characters that a text has by chance once in a million runs; of 19 in a row it has one whole piece
SPANS = {"receive initiate_extraction", "POST /v1/sessions", "POST webhook video"}


def pieces(secret: str) -> set[str]:
    """What gives a secret away: as it is, in hex, and as the user of Basic authentication."""
    basic = base64.b64encode(f"{secret}:".encode()).decode()
    whole = (secret, secret.encode().hex(), basic)
    return {text[start : start + PIECE] for text in whole for start in range(0, len(text) - PIECE + 1, PIECE)}


async def test_no_log_span_or_metric_has_a_secret(nats_url: str, bus: Bus, log: SessionLog, tmp_path: Path) -> None:
    issuer, looked_up = Issuer(tmp_path), asyncio.Event()
    at_issuer, at_receiver = secrets.token_hex(16), secrets.token_hex(16)

    async def jwks(_request: Request) -> Response:
        found = not looked_up.is_set()
        looked_up.set()
        return Response(issuer.file.read_bytes() if found else b"", 200 if found else 404)

    made, revoked = await keys.create(bus, "logged"), await keys.create(bus, "logged too")
    await keys.revoke(bus, revoked.record.id)
    token, stale = issuer.token(claims()), issuer.token(claims(exp=1))
    sock = listen("127.0.0.1", 0)
    settings: dict[str, Any] = {
        "log_level": "DEBUG",
        "webhook_private_hosts": "127.0.0.1",
        "webhook_retry_s": 0.05,
        "requests_per_minute": 1_000_000,
        "jwks_refresh_s": 0.2,
        **{name: value for name, value in issuer.settings().items() if name != "jwks_file"},
        "jwks_url": f"http://me:{at_issuer}@127.0.0.1:{sock.getsockname()[1]}/jwks?key={at_issuer}",
    }
    async with (
        http_server(Starlette(routes=[Route("/jwks", jwks)]), sock),
        running_collector() as collector,
        receiver([DROP, status(503)]) as there,
        GatewayProcess(nats_url, tmp_path, otel_exporter_otlp_endpoint=collector.url, **settings) as gateway,
        httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False) as client,
    ):
        named = {"X-API-Key": made.text}

        async def ticket() -> str:
            return str((await client.post("/v1/tickets", headers=named)).json()["ticket"])

        signed = (await client.get("/v1/webhook-secret", headers=named)).json()["webhook_secret"]
        given = {
            "a key": made.text,
            "one that was revoked": revoked.text,
            "one that lacks its end": made.text[:-3],
            "a token": token,
            "one that has expired": stale,
            "one that lacks its end, too": stale[:-60],
            "a ticket": await ticket(),
            "one that is unknown": f"pst_{secrets.token_urlsafe(32)}",
            "a secret of another kind": secrets.token_hex(20),
        }
        await asyncio.gather(*(every_way(gateway.address, secret) for secret in given.values()))

        last = await ticket()
        url = f"{there.url}&token={at_receiver}"
        begun = await client.post(
            f"/v1/sessions?ticket={last}&key={made.text}&token={at_receiver}",
            json={**WANTED, "search_query": made.text, "callback_url": url},
        )
        session = begun.json()["session_id"]
        await give(log, session, 1)
        await finish(log, session, 1)
        await wait_until(lambda: there.completed, "all is posted")
        [health] = set(re.findall(r'"url": "(http://[^"]+)/readyz"', gateway.said))
        shown = (await client.get(f"{health}/metrics")).text + (await client.get("/v1/status", headers=named)).text
        await wait_until(lambda: "keys of tokens cannot be had" in gateway.said, "the issuer has failed")
        gateway.terminate()
        assert await gateway.ended() == 0
    said, told = gateway.said, b"\n".join(collector.bodies).decode("latin-1")
    assert '"level": "debug"' in said and "session begun" in said and "Invalid HTTP request" in said
    assert {name for _, name, *_ in collector.spans.values()} >= SPANS
    assert "pinstream.gateway.refusals" in told and "pinstream_gateway_refusals" in shown
    given |= {"the issuer's": at_issuer, "the receiver's": at_receiver, "of webhooks": signed, "a ticket's": last}
    for what, secret in given.items():
        # what begins a token and a key, and the key's own id, is no secret
        hidden = re.sub(r"^(ps_[0-9a-f]{16}_|pst_|whsec_|eyJ[\w-]+\.)", "", secret)
        for where, text in {"a log": said, "a span or metric": told, "what is shown": shown}.items():
            found = [text[max(0, text.index(piece) - 200) :][:400] for piece in pieces(hidden) if piece in text]
            assert found == [], f"{what} is in {where}"
