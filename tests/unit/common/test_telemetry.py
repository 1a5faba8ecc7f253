"""Which spans are made."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libs.common import telemetry
from libs.common.settings import Settings
from libs.common.telemetry import extract, inject, received, sampler, sent, unrecorded

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


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """The spans that are made meanwhile."""
    monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
    made, kept = provider(Settings(otel_exporter_otlp_endpoint=ENDPOINT, traced_sessions=1.0))
    monkeypatch.setattr(telemetry, "_tracer", made.get_tracer("test"))
    return kept


def test_the_trace_of_a_client_is_gone_on_with_where_it_is_trusted_and_else_linked(kept: InMemorySpanExporter) -> None:
    theirs = {"traceparent": REMOTE + "1", "tracestate": "vendor=7"}
    for trusted in (True, False):
        with received("POST", theirs, trusted=trusted, refusals=()):
            told = inject(context=unrecorded())
        assert ("tracestate" in told) is trusted
    joined, apart = kept.get_finished_spans()
    assert joined.context is not None and joined.parent is not None and apart.context is not None
    assert f"{joined.context.trace_id:032x}" == REMOTE.split("-")[1]
    assert f"{joined.parent.span_id:016x}" == REMOTE.split("-")[2]
    assert apart.parent is None and apart.context.trace_id != joined.context.trace_id
    assert [link.context.trace_id for link in apart.links] == [joined.context.trace_id]
    with received("POST", {"traceparent": REMOTE + "0"}, trusted=False, refusals=()) as span:
        assert span.is_recording(), "a stranger does not choose"


def test_what_is_refused_has_not_failed_and_what_fails_says_how(kept: InMemorySpanExporter) -> None:
    for error in (KeyError("asked for too much"), OSError("the disk is full")):
        with pytest.raises(type(error)), received("POST", {}, trusted=False, refusals=(KeyError,)):
            raise error
    with pytest.raises(OSError, match="full"), sent("media.raw.{session}.{item}", "media.raw.a.b", 1):
        raise OSError("the disk is full")
    refused, failed, unsent = kept.get_finished_spans()
    assert refused.status.is_ok or refused.status.is_unset
    assert "error.type" not in (refused.attributes or {})
    for span in (failed, unsent):
        assert not span.status.is_ok and not span.status.is_unset
        assert (span.attributes or {})["error.type"] == "OSError"
