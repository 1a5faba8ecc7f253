"""One trace from the WebSocket message to the frame out: the spans of all processes are collected."""

from __future__ import annotations

import gzip
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from libs.client.client import Client
from libs.common.health import http_server, listen
from tests.e2e.conftest import Stack
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
    ("gateway", "receive results.{session}.{record}"): ("dedup", "send results.{session}.{record}"),
    ("gateway", "send frame video"): ("gateway", "receive results.{session}.{record}"),
    ("gateway", "send frame completed"): ("gateway", "receive results.{session}.{record}"),
}


class Collector:
    """Receives spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.sock = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.sock.getsockname()[1]}"
        self.spans: dict[str, tuple[str, str, str, str]] = {}  # id: service, name, parent id, trace id

    async def take(self, request: Request) -> Response:
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            service = names["service.name"].removeprefix("pinstream-")
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans[span.span_id.hex()] = (
                        service,
                        span.name,
                        span.parent_span_id.hex(),
                        span.trace_id.hex(),
                    )
        return Response(b"", media_type="application/x-protobuf")

    def edges(self) -> dict[tuple[str, str], set[tuple[str, str]]]:
        """For each span by service and name, the parents that it was seen with."""
        found: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
        for service, name, parent, _trace in self.spans.values():
            if parent in self.spans:
                found[service, name].add(self.spans[parent][:2])
        return found


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    app = Starlette(routes=[Route("/v1/traces", collector.take, methods=["POST"])])
    async with http_server(app, collector.sock):
        yield collector


async def test_one_connected_trace_covers_the_whole_path(stack_of: Stack, collector: Collector) -> None:
    stack = await stack_of(environ={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    videos = [video async for video in Client(stack.ws_url).search("jars pins:60 seed:trace", limit=10)]
    assert len(videos) == 10
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
