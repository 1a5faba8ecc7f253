"""Replicas that tell of themselves, a gateway's picture of them, and who may see how much of it; a real broker."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from nats.micro.service import ServiceInfo, ServicePing, ServiceStats

from libs.common import subjects
from libs.common.announce import Announcement, Endpoint, announced
from libs.common.bus import Bus, connect
from libs.common.errors import BrokerUnavailable
from libs.common.session_log import SessionLog
from libs.common.settings import Settings
from libs.common.tally import Tally
from services.gateway.callers import ANONYMOUS, Caller
from services.gateway.openapi import openapi_document
from services.gateway.queues import FRESH_S, Queues
from services.gateway.replicas import Replicas, watched_replicas
from services.gateway.settings import GatewaySettings
from services.gateway.status import Status
from services.gateway.storage import Storage
from tests.wait import wait_for, wait_until

SEMVER = r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?$"
NAMED = {
    "type": {"type": "string"},
    "name": {"type": "string", "pattern": "^[a-zA-Z0-9_-]+$"},
    "id": {"type": "string", "minLength": 1},
    "version": {"type": "string", "pattern": SEMVER},
    "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
}
ENDPOINT = {
    "name": {"type": "string", "pattern": "^[a-zA-Z0-9_-]+$"},
    "subject": {"type": "string", "minLength": 1},
    "queue_group": {"type": "string"},
}
WHOLE = {"type": "integer", "minimum": 0}
FIGURES = {
    **dict.fromkeys(("num_requests", "num_errors", "processing_time", "average_processing_time"), WHOLE),
    "last_error": {"type": "string"},
}


def object_of(properties: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": {**properties, **optional}}


def list_of(properties: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": object_of(properties, **optional)}


# what ADR-32 asks of each answer
SCHEMAS = {
    "PING": object_of(NAMED),
    "INFO": object_of(
        {
            **NAMED,
            "description": {"type": "string"},
            "endpoints": list_of({**ENDPOINT, "metadata": NAMED["metadata"]}),
        }
    ),
    "STATS": object_of(
        {
            **NAMED,
            "started": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$"},
            "endpoints": list_of({**ENDPOINT, **FIGURES}, data={}),
        }
    ),
}
CLIENTS = {"PING": ServicePing, "INFO": ServiceInfo, "STATS": ServiceStats}  # how nats-py reads each


@asynccontextmanager
async def transformer(bus: Bus, stop: asyncio.Event | None = None, **more: Any) -> AsyncIterator[Announcement]:
    """What a transformer announces."""
    checks = more.pop("checks", {"items": lambda: True})
    tally = more.pop("tally", Tally())
    endpoint = Endpoint("items", subjects.ALL_RAW, tally, "transformer", 200)
    settings = Settings(replica_name=more.pop("name", "transformer-7"))
    stop = stop or asyncio.Event()
    async with announced(bus, subjects.TRANSFORMER, settings, stop, checks, endpoint, **more) as announcement:
        yield announcement


class Asking:
    """Someone else on the broker, who asks and counts the answers."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    async def ask(self, subject: str, id_: str) -> dict[str, Any]:
        """The one answer of that replica; fails where there are several."""
        inbox = self.bus.new_inbox()
        found: list[dict[str, Any]] = []

        async def heard(message: Any) -> None:
            found.append(json.loads(message.data))

        subscription = await self.bus.subscribe(inbox, heard)
        await self.bus.tell(subject, reply=inbox)
        await wait_until(lambda: any(one["id"] == id_ for one in found), f"{id_} answers {subject}")
        await self.bus.client.flush()
        await subscription.unsubscribe()
        mine = [one for one in found if one["id"] == id_]
        assert len(mine) == 1
        return mine[0]


@pytest.fixture
async def other(nats_url: str) -> AsyncIterator[Bus]:
    async with connect(Settings(nats_url=nats_url), "other") as bus:
        yield bus


@pytest.fixture
async def replicas(other: Bus) -> AsyncIterator[Replicas]:
    async with watched_replicas(other) as replicas:
        yield replicas


def state(replicas: Replicas, id_: str) -> str | None:
    return next((one.state(time.monotonic()) for one in replicas.all() if one.id == id_), None)


@pytest.mark.parametrize("verb", ["PING", "INFO", "STATS"])
async def test_a_replica_answers_as_the_protocol_says_wherever_it_is_asked(bus: Bus, other: Bus, verb: str) -> None:
    asking = Asking(other)
    async with transformer(bus) as announcement:
        for where in ("", ".pinstream-transformer", f".pinstream-transformer.{announcement.id}"):
            answer = await asking.ask(f"$SRV.{verb}{where}", announcement.id)
            jsonschema_rs.validate(SCHEMAS[verb], answer)
            assert answer["type"] == f"io.nats.micro.v1.{verb.lower()}_response"
            assert answer["name"] == "pinstream-transformer"
            assert answer["metadata"]["replica"] == "transformer-7"
            assert CLIENTS[verb].from_dict(answer).id == announcement.id  # type: ignore[attr-defined]


async def test_what_is_done_and_what_failed_is_in_the_figures(bus: Bus, other: Bus) -> None:
    tally = Tally()
    async with transformer(bus, tally=tally) as announcement:
        with tally.working():
            pass
        with pytest.raises(BrokerUnavailable), tally.working():
            raise BrokerUnavailable("no answer")
        tally.busy = 3
        answer = await Asking(other).ask("$SRV.STATS.pinstream-transformer", announcement.id)
    items, own = answer["endpoints"]
    assert (items["subject"], items["queue_group"]) == (subjects.ALL_RAW, "transformer")
    assert (items["num_requests"], items["num_errors"], items["last_error"]) == (2, 1, "no answer")
    assert items["average_processing_time"] == items["processing_time"] // 2 > 0
    assert (items["data"]["busy"], items["data"]["most"]) == (3, 200)
    assert own["data"]["last_error"]["message"] == "no answer"
    assert own["data"]["memory_bytes"] > 10_000_000
    assert own["data"]["checks"] == {"items": True}


async def test_a_replica_that_stops_says_so_at_once(bus: Bus, replicas: Replicas) -> None:
    stop = asyncio.Event()
    async with transformer(bus, stop) as announcement:
        await wait_until(lambda: state(replicas, announcement.id) == "ready", "it is there")
        stop.set()
        await wait_until(lambda: state(replicas, announcement.id) == "stopping", "it stops", timeout_s=5)
    await wait_until(lambda: state(replicas, announcement.id) == "stopped", "it is done", timeout_s=5)


async def test_two_gateways_show_the_same_that_is_gone_whenever_they_began(
    bus: Bus, other: Bus, replicas: Replicas
) -> None:
    async with transformer(bus) as announcement:
        await wait_until(lambda: state(replicas, announcement.id) == "ready", "it is there")
    await wait_until(lambda: state(replicas, announcement.id) == "stopped", "it is done")
    stop = asyncio.Event()
    async with (
        announced(other, subjects.GATEWAY, Settings(), stop, {}) as first,
        watched_replicas(bus) as later,
    ):
        first.gone = replicas.gone
        await wait_until(lambda: state(later, announcement.id) == "stopped", "the second gateway knows")
        of = {one.id: one for one in (*replicas.all(), *later.all())}
        assert of[announcement.id].metadata["replica"] == "transformer-7"


def status_of(log: SessionLog, replicas: Replicas, **settings: Any) -> Status:
    return Status(GatewaySettings(**settings), replicas, Queues(replicas.bus), Storage(log, 2.0), None)


async def test_a_stranger_is_told_how_it_is_but_not_where_nor_what_went_wrong(
    bus: Bus, log: SessionLog, replicas: Replicas
) -> None:
    tally = Tally()
    tally.failed(BrokerUnavailable("the CDN at 10.0.0.7 does not answer"))
    async with AsyncExitStack() as running:
        announcement = await running.enter_async_context(transformer(bus, tally=tally, name="pod-7"))
        await wait_until(lambda: state(replicas, announcement.id) == "ready", "it is there")
        public = status_of(log, replicas, gateway_host="0.0.0.0", anonymous="yes", replica_name="gateway-7")
        told = (await _document(public, ANONYMOUS)).decode()
        assert announcement.id in told
        for hidden in (
            "10.0.0.7",
            "pod-7",
            "gateway-7",
            announcement.metadata["host"],
            f'"pid":{announcement.metadata["pid"]}',
        ):
            assert hidden not in told
        assert json.loads(told)["reduced"] is True
        known = await _document(public, Caller(owner="key:me"))
        assert b"10.0.0.7" in known and b"pod-7" in known
        proxied = status_of(log, replicas, trusted_proxies=("127.0.0.1",))
        assert json.loads(await _document(proxied, ANONYMOUS))["reduced"] is True
        laptop = await _document(status_of(log, replicas), ANONYMOUS)
        assert b"10.0.0.7" in laptop and b"pod-7" in laptop


async def _document(status: Status, caller: Caller) -> bytes:
    """Checked against the document that describes it."""
    body = msgspec.json.encode(await status.of(caller))
    schemas = json.loads(openapi_document(key_needed=False))["components"]["schemas"]
    rooted = {"$ref": "#/components/schemas/SystemStatus", "components": {"schemas": schemas}}
    jsonschema_rs.validate(rooted, json.loads(body))
    return body


async def test_what_waits_is_counted_with_the_age_of_the_oldest(bus: Bus, session: str) -> None:
    queues = Queues(bus)

    async def waiting() -> tuple[int, float | None]:
        queues._tried_at = float("-inf")
        depths = await queues.look()
        found = next(one for one in depths.queues if one.consumer == subjects.SUSPECTS_OF[subjects.TRANSFORMER])
        return found.pending + found.in_flight, found.oldest_s

    before, oldest_before_s = await waiting()
    assert (oldest_before_s is None) == (before == 0)
    where = [subjects.suspect(subjects.TRANSFORMER, subjects.raw(session, f"{n}-0")) for n in range(3)]
    for one in where:
        await bus.publish(one, b"{}", create=True)
    try:
        await wait_for(lambda: _holds(waiting, lambda now: now[0] == before + 3), "three more wait")
        _, oldest_s = await waiting()
        assert oldest_s is not None and 0 <= oldest_s < (30 if not before else 3600)
        streams = {one.stream: one for one in queues.depths.streams}
        assert streams[subjects.QUARANTINE].messages >= 3
        assert streams[subjects.RESULTS].most_bytes == 1024**3
    finally:
        for pattern in subjects.suspects_of(session):
            await bus.purge(subjects.QUARANTINE, pattern)
    await wait_for(lambda: _holds(waiting, lambda now: now[0] == before), "they are gone")


async def _holds(ask: Any, is_so: Any) -> bool:
    return bool(is_so(await ask()))


async def test_the_broker_is_asked_once_for_all_who_look_at_the_same_time(bus: Bus) -> None:
    queues = Queues(bus)
    first, *others = await asyncio.gather(*(queues.look() for _ in range(20)))
    assert all(one is first for one in others)
    assert first.looked_at > 0 and FRESH_S >= 1


async def test_an_error_that_names_a_session_is_shown_without_it(bus: Bus, other: Bus, session: str) -> None:
    tally = Tally()
    async with transformer(bus, tally=tally) as announcement:
        with pytest.raises(BrokerUnavailable), tally.working():
            raise BrokerUnavailable(f"no acknowledgement for {subjects.raw(session, '77-0')}")
        answer = await Asking(other).ask("$SRV.STATS", announcement.id)
    assert session not in json.dumps(answer)
    assert "no acknowledgement for media.raw." in json.dumps(answer)
