"""One trace from the WebSocket message to the frame out: the spans of all processes are collected."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import httpx2
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from libs.client.client import Client
from libs.client.local import LocalStack
from libs.common import subjects
from libs.common.bus import connect
from libs.common.settings import Settings
from tests.e2e.conftest import Stack
from tests.span_collector import Collector
from tests.span_collector import running as running_collector
from tests.wait import wait_until

# child span -> its parent, each with its service: every edge of the path
EDGES = {
    ("gateway", "send search.requests.{session}"): ("gateway", "receive initiate_extraction"),
    ("crawler", "process search.requests.{session}"): ("gateway", "send search.requests.{session}"),
    ("crawler", "read page"): ("crawler", "process search.requests.{session}"),
    ("crawler", "send media.raw.{session}.{item}"): ("crawler", "process search.requests.{session}"),
    ("transformer", "process media.raw.{session}.{item}"): ("crawler", "send media.raw.{session}.{item}"),
    ("transformer", "resolve"): ("transformer", "process media.raw.{session}.{item}"),
    ("transformer", "send media.direct.{session}.{item}"): ("transformer", "process media.raw.{session}.{item}"),
    ("dedup", "process media.direct.{session}.{item}"): ("transformer", "send media.direct.{session}.{item}"),
    ("dedup", "send results.{session}.{record}"): ("dedup", "process media.direct.{session}.{item}"),
    ("gateway", "process results.{session}.{record}"): ("dedup", "send results.{session}.{record}"),
    ("gateway", "send frame video"): ("gateway", "process results.{session}.{record}"),
    ("gateway", "send frame completed"): ("gateway", "process results.{session}.{record}"),
}


MOST_SPANS = 150  # of a search of 50 videos, so that it can be read
MOST_NAMES = 20
KINDS = {"send": SpanMessage.SPAN_KIND_PRODUCER, "process": SpanMessage.SPAN_KIND_CONSUMER}


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with running_collector() as collector:
        yield collector


async def test_one_connected_trace_covers_the_whole_path(stack_of: Stack, collector: Collector) -> None:
    stack = await stack_of(guarded=False, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    videos = [video async for video in Client(stack.ws_url).search("jars pins:200 seed:trace", limit=50)]
    assert len(videos) == 50
    await wait_until(lambda: set(EDGES) <= set(collector.edges()), "every edge of the path was seen")
    edges = collector.edges()
    for child, parent in EDGES.items():
        assert parent in edges[child], f"{child} came from {edges[child]}"
    roots = {trace for _, name, _, trace in collector.spans.values() if name == "receive initiate_extraction"}
    assert len(roots) == 1
    of_the_path = {trace for service, name, _, trace in collector.spans.values() if (service, name) in EDGES}
    assert of_the_path == roots

    def orphans() -> set[tuple[str, str]]:
        return {
            (service, name)
            for service, name, parent, trace in collector.spans.values()
            if trace in roots and parent and parent not in collector.spans
        }

    await wait_until(lambda: not orphans(), "each span's parent, which its service may send later")
    in_trace = [span for span in collector.told.values() if span.trace_id.hex() in roots]
    assert len(in_trace) < MOST_SPANS
    assert len({span.name for span in in_trace}) < MOST_NAMES
    assert_as_the_conventions_say(in_trace)
    await a_failure_is_recorded(stack, collector)
    await the_trace_of_a_client_goes_on(stack, collector)


async def the_trace_of_a_client_goes_on(stack: LocalStack, collector: Collector) -> None:
    """By REST, of one who is known, through to the frames; what its own vendor keeps in it goes along."""
    trace, parent = secrets.token_hex(16), secrets.token_hex(8)
    headers = {"traceparent": f"00-{trace}-{parent}-01", "tracestate": "vendor=7"}
    wanted = {"search_query": "jars pins:40 seed:joined", "result_limit": 2}
    async with httpx2.AsyncClient(base_url=stack.page_url, trust_env=False) as client:
        answer = await client.post("/v1/sessions", json=wanted, headers=headers)
        assert answer.status_code == 201, answer.text

    def joined() -> dict[str, SpanMessage]:
        return {span.name: span for span in collector.told.values() if span.trace_id.hex() == trace}

    last = f"process {subjects.DIRECT_TEMPLATE}"
    await wait_until(lambda: {"POST /v1/sessions", last} <= set(joined()), "the way of an item in the client's trace")
    assert joined()["POST /v1/sessions"].parent_span_id.hex() == parent
    assert joined()[last].trace_state == "vendor=7"


def attributes_of(span: SpanMessage) -> dict[str, str]:
    return {pair.key: pair.value.string_value or str(pair.value.int_value) for pair in span.attributes}


def assert_as_the_conventions_say(spans: list[SpanMessage]) -> None:
    """https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/"""
    sessions = set()
    for span in spans:
        told = attributes_of(span)
        if not told.get("messaging.system"):
            assert span.name.split()[0] not in KINDS or "frame" in span.name
            continue
        operation, destination = span.name.split(" ", 1)
        assert span.kind == KINDS[operation], span.name
        assert (told["messaging.system"], told["messaging.destination.template"]) == ("nats", destination)
        assert told["messaging.operation.name"] == told["messaging.operation.type"] == operation
        assert told["messaging.destination.name"]
        assert "error.type" not in told
        sessions.add(told["messaging.message.conversation_id"])
        if operation == "process":
            [link] = span.links
            assert link.span_id == span.parent_span_id, "the message's creation context is both"
        if span.name.startswith("process media"):
            assert told["messaging.consumer.group.name"] in (subjects.TRANSFORMER, subjects.DEDUP)
    assert len(sessions) == 1


async def a_failure_is_recorded(stack: LocalStack, collector: Collector) -> None:
    """Though its context says that it need not be."""
    trace = secrets.token_hex(16)
    session, parent = secrets.token_hex(16), secrets.token_hex(8)
    async with connect(Settings(nats_url=stack.nats_url), "test") as bus:
        headers = {"traceparent": f"00-{trace}-{parent}-00"}
        await bus.publish(subjects.raw(session, "1-0"), b"no JSON", headers=headers)

    def failed() -> list[SpanMessage]:
        return [span for span in collector.told.values() if span.trace_id.hex() == trace]

    await wait_until(failed, "what failed was recorded")
    first = min(failed(), key=lambda span: span.start_time_unix_nano)
    assert first.name == f"process {subjects.RAW_TEMPLATE}"
    assert first.status.code == Status.STATUS_CODE_ERROR
    assert attributes_of(first)["error.type"] == "dead_letter"
    assert [link.span_id.hex() for link in first.links] == [first.parent_span_id.hex()] == [parent]
