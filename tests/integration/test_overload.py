"""A gateway whose event loop is late: it refuses what is new, by every way in, and goes on with what it has."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
from websockets.asyncio.client import connect

from libs.common.session_log import SessionLog
from tests.integration.firebase_gateway import WireClient
from tests.integration.gateway_process import GatewayProcess, ask, finish, give, receive_event, to_completed
from tests.integration.rest_gateway import WANTED
from tests.wait import wait_until

MOST_S = 0.2
STILL_S, AWAKE_S = 0.7, 0.05
PATIENCE_S = 60  # on a busy machine the loop is late by itself
OVERLOADED, RECOVERED = "overloaded: new searches are refused", "no longer overloaded"
PUSH_ID = "-OaBcDeFgHiJkLmNoPqR"


@asynccontextmanager
async def stalled(gateway: GatewayProcess) -> AsyncIterator[None]:
    """Nearly all of the time its process stands still, and its event loop with it; meanwhile."""
    assert gateway.process is not None
    pid = gateway.process.pid

    async def stall() -> None:
        while True:
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(STILL_S)
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(AWAKE_S)

    task = asyncio.create_task(stall())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        os.kill(pid, signal.SIGCONT)


async def push(gateway: GatewayProcess) -> dict[str, Any]:
    """The answer to a `push()` of Firebase's SDKs."""
    async with connect(f"ws://{gateway.address}/.ws?v=5&ns=x", open_timeout=20) as websocket:
        client = WireClient(websocket)
        assert (await client.receive())["t"] == "c"
        return await client.ask("p", p=f"/requests/{PUSH_ID}", d=WANTED)


async def test_a_late_loop_refuses_new_searches_by_every_way_in_and_ends_what_runs(
    nats_url: str, log: SessionLog, tmp_path: Path
) -> None:
    settings = {"loop_lag_most_s": MOST_S, "webhook_private_hosts": "127.0.0.1"}
    async with (
        GatewayProcess(nats_url, tmp_path, **settings) as gateway,
        httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False, timeout=20) as http,
        connect(gateway.url) as client,
    ):
        keyed = {"Idempotency-Key": tmp_path.name}
        session = (await http.post("/v1/sessions", json=WANTED, headers=keyed)).json()["session_id"]
        before = [await give(log, session, n) for n in range(2)]
        async with stalled(gateway):
            await wait_until(lambda: OVERLOADED in gateway.said, "it finds itself overloaded", PATIENCE_S)
            await ask(client, "initiate_extraction", search_query="pots")
            webhook = {**WANTED, "callback_url": "http://127.0.0.1:9999/hook"}
            asked = asyncio.gather(
                http.post("/v1/sessions", json=WANTED),
                http.post("/v1/sessions", json=webhook),
                http.post("/requests.json", json=WANTED),
                http.post("/v1/sessions", json=WANTED, headers=keyed),
                http.get(f"/v1/sessions/{session}"),
                http.get("/readyz"),
            )
            refused, pushed = await asyncio.gather(receive_event(client, "error"), push(gateway))
            *answers, again, shown, ready = await asked
            assert (refused["code"], refused["retry_after_s"]) == ("unavailable", 5.0)
            assert [(one.status_code, one.headers["retry-after"]) for one in answers] == [(503, "5")] * 3
            assert [one.json().get("code") for one in answers] == ["unavailable", "unavailable", None]
            assert all("overloaded" in one for one in (refused["message"], pushed["d"], *(one.text for one in answers)))
            assert pushed["s"] == "unavailable"
            assert (again.status_code, again.json()["session_id"], shown.status_code) == (201, session, 200)
            assert ready.status_code == 200  # who comes back to what runs would be turned away

            await ask(client, "resume_extraction", session_id=session, after=0)
            later = [await give(log, session, n) for n in range(2, 5)]
            await finish(log, session, 5)
            frames = await to_completed(client)
            assert [frame["sequence"] for frame in frames if frame["event"] == "video"] == before + later
            assert RECOVERED not in gateway.said
        await wait_until(lambda: RECOVERED in gateway.said, "it has recovered", PATIENCE_S)
        await ask(client, "initiate_extraction", search_query="pots")
        assert (await receive_event(client, "accepted"))["session_id"]
        assert (await http.post("/v1/sessions", json=WANTED)).status_code == 201
        lines = [json.loads(line) for line in gateway.said.splitlines() if OVERLOADED in line]
        assert len(lines) == 1
        assert lines[0]["loop_lag_s"] > MOST_S
