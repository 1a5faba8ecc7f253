"""A collector of metrics: OTLP over HTTP, as services send it."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from libs.common.health import http_server, listen


class MetricCollector:
    """`values` are the last ones, by service, metric and the value of its only attribute."""

    def __init__(self) -> None:
        self.sock = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.sock.getsockname()[1]}"
        self.values: dict[tuple[str, str, str], float] = {}
        self.units: dict[str, str] = {}

    async def take(self, request: Request) -> Response:
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            service = names["service.name"].removeprefix("pinstream-")
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                self.units[metric.name] = metric.unit
                for point in [*metric.gauge.data_points, *metric.sum.data_points]:
                    attribute = ",".join(pair.value.string_value for pair in point.attributes)
                    value = point.as_double if point.HasField("as_double") else point.as_int
                    self.values[service, metric.name, attribute] = value
        return Response(b"", media_type="application/x-protobuf")


async def ignore(request: Request) -> Response:
    """Traces, which are for others."""
    return Response(b"", media_type="application/x-protobuf")


@asynccontextmanager
async def running_collector() -> AsyncIterator[MetricCollector]:
    collector = MetricCollector()
    routes = [
        Route("/v1/metrics", collector.take, methods=["POST"]),
        Route("/{other:path}", ignore, methods=["POST"]),
    ]
    async with http_server(Starlette(routes=routes), collector.sock):
        yield collector
