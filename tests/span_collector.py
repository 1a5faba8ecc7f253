"""A collector of spans: OTLP over HTTP, as services send it."""

from __future__ import annotations

import gzip
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from libs.common.health import http_server, listen


class Collector:
    """Receives spans by OTLP over HTTP; `bodies` are all that came, of metrics too."""

    def __init__(self) -> None:
        self.sock = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.sock.getsockname()[1]}"
        self.spans: dict[str, tuple[str, str, str, str]] = {}  # id: service, name, parent id, trace id
        self.bodies: list[bytes] = []
        self.told: dict[str, SpanMessage] = {}  # by id: all of it

    async def take(self, request: Request) -> Response:
        """A batch of spans."""
        for resource in ExportTraceServiceRequest.FromString(await self._body(request)).resource_spans:
            names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            service = names["service.name"].removeprefix("pinstream-")
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.told[span.span_id.hex()] = span
                    self.spans[span.span_id.hex()] = (
                        service,
                        span.name,
                        span.parent_span_id.hex(),
                        span.trace_id.hex(),
                    )
        return Response(b"", media_type="application/x-protobuf")

    async def ignore(self, request: Request) -> Response:
        """Metrics, which are for others."""
        await self._body(request)
        return Response(b"", media_type="application/x-protobuf")

    async def _body(self, request: Request) -> bytes:
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.bodies.append(body)
        return body

    def edges(self) -> dict[tuple[str, str], set[tuple[str, str]]]:
        """For each span by service and name, the parents that it was seen with."""
        found: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
        for service, name, parent, _trace in self.spans.values():
            if parent in self.spans:
                found[service, name].add(self.spans[parent][:2])
        return found


@asynccontextmanager
async def running() -> AsyncIterator[Collector]:
    """One that is there meanwhile."""
    collector = Collector()
    routes = [
        Route("/v1/traces", collector.take, methods=["POST"]),
        Route("/{other:path}", collector.ignore, methods=["POST"]),
    ]
    async with http_server(Starlette(routes=routes), collector.sock):
        yield collector
