"""The documents that describe the gateway, held against what it does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import jsonschema_rs
import pytest
import uvloop
from websockets.asyncio.client import connect

from libs.client.broker import Broker
from libs.common import keys
from libs.common.bus import connect as broker_connection
from libs.common.session_log import SessionLog, session_log
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, set_up
from services.gateway.asyncapi import EVENTS, FRAMES, OPERATIONS, name_of
from tests.integration.answering import answering
from tests.integration.event_source import EventClient
from tests.integration.gateway_process import GatewayProcess, finish, give, receive, to_completed
from tests.integration.rest_gateway import RestGateway, begin, http_client, rest_gateway

FILTERS = {
    "min_duration_s": 1,
    "max_duration_s": 60.5,
    "min_height": 100,
    "orientation": "portrait",
    "with_captions": True,
    "exclude_promoted": True,
    "created_after": "2026-01-31",
}


@pytest.fixture
async def gateway(log: SessionLog) -> AsyncIterator[RestGateway]:
    async with rest_gateway(log) as gateway:
        yield gateway


async def document(gateway: RestGateway, path: str) -> dict[str, Any]:
    async with http_client(gateway) as client:
        answer = await client.get(path)
        assert answer.headers["content-type"] == "application/json"
        found: dict[str, Any] = answer.json()
        return found


class Messages:
    """Validates what is sent over the socket by the document's own message of that name."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.seen: set[str] = set()

    def check(self, message: dict[str, Any], channel: str = "socket") -> dict[str, Any]:
        """Raises ValidationError."""
        name = message.get("event") or message["operation"]
        there = self.document["channels"][channel]["messages"][name]["$ref"].split("/")[-1]
        payload = self.document["components"]["messages"][there]["payload"]
        jsonschema_rs.validate({"components": self.document["components"], **payload}, message)
        self.seen.add(name)
        return message


async def test_every_frame_and_operation_of_a_session_is_as_the_document_says(
    gateway: RestGateway, log: SessionLog
) -> None:
    messages = Messages(await document(gateway, "/asyncapi.json"))

    async with connect(f"ws://{gateway.address}/ws") as client:

        async def ask(operation: str, **parameters: Any) -> None:
            given = {"parameters": parameters} if parameters else {}
            await client.send(json.dumps(messages.check({"operation": operation, "id": {"n": 1}, **given})))

        wanted = {"search_query": "ceramic glaze", "filters": FILTERS, "new_only": True, "scope": "a"}
        await ask("initiate_extraction", **wanted)
        session = messages.check(await receive(client))["session_id"]
        for n in range(3):
            await give(log, session, n)
        await finish(log, session, 3)
        for frame in await to_completed(client):
            messages.check(frame)
        await ask("resume_extraction", session_id=session, after=0)
        for frame in await to_completed(client):
            messages.check(frame)
        await ask("cancel_extraction", session_id=session)
        messages.check(await receive(client))
        await ask("ping")
        messages.check(await receive(client))
        await ask("resume_extraction", session_id="0" * 32, after=7)
        messages.check(await receive(client))
    assert messages.seen == {name_of(one) for one in (*OPERATIONS, *FRAMES)}
    async with EventClient(gateway.port, session) as source:
        events = await source.to_end()
    for event in events:
        assert messages.check(event.data, "events")["event"] == event.event
    assert {event.event for event in events} >= {"video", "completed"}
    assert set(messages.document["channels"]["events"]["messages"]) == {name_of(one) for one in EVENTS}


@pytest.mark.parametrize(
    "frame",
    [
        {"event": "video", "session_id": "a", "sequence": "1", "video": {}},
        {"event": "completed", "session_id": "a", "sequence": 1, "reason": "weather", "summary": {}},
        {"operation": "initiate_extraction", "parameters": {"search_query": "x", "result_limit": 0}},
        {"operation": "initiate_extraction", "parameters": {"search_query": "x", "url": "https://pin.it/x"}},
        {"operation": "initiate_extraction", "parameters": {"search_query": "x", "new_only": True}},
        {"operation": "initiate_extraction", "parameters": {"search_query": "x", "filters": {"colour": "red"}}},
        {"operation": "resume_extraction", "parameters": {"session_id": "a b"}},
        {"operation": "resume_extraction", "parameters": {"session_id": "a", "after": -1}},
    ],
)
async def test_the_document_refuses_what_is_not_so(gateway: RestGateway, frame: dict[str, Any]) -> None:
    messages = Messages(await document(gateway, "/asyncapi.json"))
    with pytest.raises(jsonschema_rs.ValidationError):
        messages.check(frame)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for one in value.values():
            yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


@pytest.mark.parametrize("path", ["/asyncapi.json", "/openapi.json"])
async def test_every_reference_leads_somewhere(gateway: RestGateway, path: str) -> None:
    whole = await document(gateway, path)
    found = set(references(whole))
    assert len(found) > 10
    for reference in found:
        here: Any = whole
        for part in reference.removeprefix("#/").split("/"):
            here = here[part]


async def test_the_document_has_every_route_and_no_other(gateway: RestGateway) -> None:
    described = {
        (path.removeprefix("/v1"), method.upper())
        for path, item in (await document(gateway, "/openapi.json"))["paths"].items()
        for method in item
        if method != "parameters"
    }
    served = {
        (route.path, method)  # type: ignore[attr-defined]
        for route in gateway.rest.app.routes
        for method in route.methods  # type: ignore[attr-defined]
        if method != "HEAD"
    }
    assert described == {*served, ("/tickets", "POST")}  # whose route is not of REST's own application


async def test_what_rest_gives_is_as_the_document_says(gateway: RestGateway, log: SessionLog, session: str) -> None:
    whole = await document(gateway, "/openapi.json")

    def check(name: str, value: Any) -> None:
        schema = {"components": whole["components"], "$ref": f"#/components/schemas/{name}"}
        jsonschema_rs.validate(schema, value)

    wanted: dict[str, Any] = {"search_query": "x", "filters": FILTERS, "new_only": True, "scope": "daily"}
    check("InitiateParameters", wanted)
    async with http_client(gateway, f"ann-{session}") as client:
        begun = await begin(client, **wanted)
        check("Session", (await client.get(f"/v1/sessions/{begun}")).json())
        await give(log, begun, 1)
        await finish(log, begun, 1)
        check("Session", (await client.get(f"/v1/sessions/{begun}")).json())
        check("SessionPage", (await client.get("/v1/sessions")).json())
        check("VideoPage", (await client.get(f"/v1/sessions/{begun}/videos")).json())
        line = await client.get(f"/v1/sessions/{begun}/videos", headers={"Accept": "application/x-ndjson"})
        check("FoundVideo", json.loads(line.content))
        check("ProblemDocument", (await client.get("/v1/sessions/x")).json())


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """One of this test's own: hundreds of searches that nobody works on are left on it."""
    broker = Broker(tmp_path / "jetstream")
    broker.store.mkdir()
    broker.start()

    async def streams() -> None:
        async with broker_connection(Settings(nats_url=broker.url), "test") as bus:
            await set_up(bus, StreamSettings())

    uvloop.run(streams())
    yield broker
    broker.stop()


CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "ensure_resource_availability",
    "ignored_auth",
)


async def test_schemathesis_finds_nothing(broker: Broker, tmp_path: Path) -> None:
    async with (
        broker_connection(Settings(nats_url=broker.url), "test") as bus,
        session_log(bus) as log,
        answering(log),
        # posts nothing to what is made up
        GatewayProcess(broker.url, tmp_path, anonymous="no", requests_per_minute=1e6, webhooks="false") as process,
    ):
        command = [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", f"http://{process.address}/openapi.json"),
            *("--checks", ",".join(CHECKS), "--max-examples", "4", "--seed", "1", "--generation-database", "none"),
            *("--phases", "examples,coverage,fuzzing,stateful", "--request-timeout", "20", "--no-color"),
            *("--header", f"Authorization: Bearer {(await keys.create(bus, 'schemathesis')).text}"),
            *("--exclude-operation-id", "followSession", "--suppress-health-check", "all"),
        ]
        done = await _run(command, tmp_path)
        print(done.stdout[-6000:])
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        found = re.search(r"(\d+) generated, (\d+) passed(?:, \d+ skipped)?\n", done.stdout)
        assert found is not None and found[1] == found[2] and int(found[1]) > 100
        async with httpx2.AsyncClient(base_url=f"http://{process.address}", trust_env=False) as client:
            assert (await client.get("/readyz")).status_code == 200
        assert "Traceback" not in process.said


async def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    import asyncio

    return await asyncio.to_thread(
        subprocess.run, command, cwd=folder, capture_output=True, text=True, timeout=90, check=False
    )
