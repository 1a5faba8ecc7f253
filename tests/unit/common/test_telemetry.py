"""Which spans are made."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libs.common.settings import Settings
from libs.common.telemetry import extract, inject, sampler

ENDPOINT = "http://127.0.0.1:4318"
REMOTE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"


def provider(settings: Settings) -> tuple[TracerProvider, InMemorySpanExporter]:
    kept = InMemorySpanExporter()
    made = TracerProvider(sampler=sampler(settings))
    made.add_span_processor(SimpleSpanProcessor(kept))
    return made, kept


@pytest.mark.parametrize(
    ("endpoint", "share", "variable", "least", "most"),
    [
        (ENDPOINT, 1.0, "", 400, 400),
        (ENDPOINT, 0.0, "", 0, 0),
        (ENDPOINT, 0.5, "", 130, 270),
        (ENDPOINT, 0.5, "always_off", 0, 0),
        (None, 1.0, "", 0, 0),
    ],
    ids=["all", "none", "half", "the SDK's own variable", "no endpoint"],
)
def test_sessions_are_traced_by_a_share(
    endpoint: str | None, share: float, variable: str, least: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", variable)
    made, kept = provider(Settings(otel_exporter_otlp_endpoint=endpoint, traced_sessions=share))
    for _ in range(400):
        with made.get_tracer("test").start_as_current_span("root"):
            assert inject()["traceparent"].startswith("00-"), "there is a trace in any case"
            with made.get_tracer("test").start_as_current_span("within"):
                pass
    names = [span.name for span in kept.get_finished_spans()]
    assert least <= names.count("root") <= most
    assert names.count("within") == names.count("root")


def test_what_was_decided_at_the_start_holds_for_all_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
    made, kept = provider(Settings(otel_exporter_otlp_endpoint=ENDPOINT, traced_sessions=0.0))
    for flag in "01":
        made.get_tracer("test").start_span(f"after {flag}", extract({"traceparent": REMOTE + flag})).end()
    assert [span.name for span in kept.get_finished_spans()] == ["after 1"]
