"""Traces where no collector is, and where one comes later."""

from __future__ import annotations

import logging
import socket
import time

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from libs.client.broker import free_port
from libs.common import collector
from libs.common.collector import WhenThere


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_without_a_collector_one_line_is_said_and_the_end_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    provider = TracerProvider()
    exporter = WhenThere(OTLPSpanExporter(f"{address}/v1/traces"), address)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=10))
    with capture_logs() as logs, caplog.at_level(logging.DEBUG, "opentelemetry"):
        for _ in range(3):
            provider.get_tracer("test").start_span("lost").end()
            provider.force_flush()
        provider.get_tracer("test").start_span("last").end()
        began = time.monotonic()
        provider.shutdown()
    assert time.monotonic() - began < 2  # the SDK would try for ten
    assert [line["event"] for line in logs] == ["no traces are sent: nothing listens there yet"]
    assert caplog.records == []


def test_traces_are_sent_from_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = InMemorySpanExporter()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        exporter = WhenThere(inner, address)
        with capture_logs() as logs:
            assert exporter.export([]) is SpanExportResult.FAILURE
            listener.listen()
            assert exporter.export([]) is SpanExportResult.FAILURE  # it was looked for just now
            monkeypatch.setattr(collector, "LOOK_S", 0.0)
            assert exporter.export([]) is SpanExportResult.SUCCESS
    assert [line["event"] for line in logs][1:] == ["traces are sent"]
    assert exporter.export([]) is SpanExportResult.SUCCESS  # from now on the SDK tells what fails


def test_what_a_proxy_reaches_is_not_looked_for_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert WhenThere(InMemorySpanExporter(), "http://collector.invalid:4318").export([]) is SpanExportResult.SUCCESS


def test_an_address_that_is_none_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("http_proxy", raising=False)
    for address in ("collector", "http://", "http://127.0.0.1:99999"):
        assert WhenThere(InMemorySpanExporter(), address).export([]) is SpanExportResult.FAILURE
