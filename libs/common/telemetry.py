"""Traces and logs: where they are set up, and the one place where trace context enters and leaves messages."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue
from structlog.typing import EventDict, WrappedLogger

from libs.common import last_error, subjects
from libs.common.collector import WhenThere
from libs.common.metrics import exported
from libs.common.redaction import redact
from libs.common.settings import Settings

SPAN_QUEUE = 65_536  # the default of 2,048 lost 37 % of 100,000 spans
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"  # the SDK's, which goes before the one for all
SPAN_DELAY_MS = 500  # so that a killed process takes little with it

_propagator = TraceContextTextMapPropagator()
_tracer = trace.get_tracer("pinstream")
_Attributes = Mapping[str, AttributeValue]


def _trace_ids(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event


def set_up_logs(settings: Settings, service: str) -> None:
    """Makes every log line, the libraries' too, one JSON object with service, trace and session ids."""

    def add_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        last_error.note,
        structlog.processors.format_exc_info,
        _trace_ids,
        add_service,
    ]
    last = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last, redact],
        )
    )
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for chatty in ("httpx2", "httpcore2", "uvicorn.access", "hpack"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level)),
        cache_logger_on_first_use=True,
    )


@contextmanager
def telemetry(settings: Settings, service: str) -> Iterator[None]:
    """Logs, traces and metrics of `service`; at the end what is still queued is sent. Without an endpoint nothing is.

    There is always a provider, so that log lines carry trace ids and messages carry `traceparent` in any case.
    """
    set_up_logs(settings, service)
    identity = {"service.name": f"pinstream-{service}", "service.instance.id": str(uuid4())}  # of this process
    resource = Resource.create(identity)
    provider = TracerProvider(sampler=sampler(settings), resource=resource)
    if settings.otel_exporter_otlp_endpoint is not None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(
            BatchSpanProcessor(
                WhenThere(OTLPSpanExporter(), os.environ.get(TRACES_ENDPOINT) or settings.otel_exporter_otlp_endpoint),
                max_queue_size=SPAN_QUEUE,
                schedule_delay_millis=SPAN_DELAY_MS,
                max_export_batch_size=4096,
            )
        )
    trace.set_tracer_provider(provider)
    try:
        with exported(settings, resource):
            yield
    finally:
        provider.shutdown()


def sampler(settings: Settings) -> Sampler | None:
    """Where no spans are sent none are made; OTEL_TRACES_SAMPLER is the SDK's own way to say it."""
    if settings.otel_exporter_otlp_endpoint is None:
        return ALWAYS_OFF
    if os.environ.get("OTEL_TRACES_SAMPLER"):
        return None
    return ParentBased(TraceIdRatioBased(settings.traced_sessions))


def inject(headers: dict[str, str] | None = None, context: Context | None = None) -> dict[str, str]:
    """`headers` with the current (or given) trace context as `traceparent`."""
    carrier = dict(headers or {})
    _propagator.inject(carrier, context=context)
    return carrier


def extract(headers: Mapping[str, str] | None) -> Context:
    """The trace context that `headers` carry; an empty one where they carry none."""
    return _propagator.extract(dict(headers or {}), context=Context())


def unrecorded() -> Context:
    """The current context, told onward as not to be recorded: what follows stays in the trace without spans."""
    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return trace.set_span_in_context(trace.INVALID_SPAN)
    return trace.set_span_in_context(NonRecordingSpan(_flagged(current, TraceFlags.DEFAULT)))


def _recorded(context: Context) -> Context:
    remote = trace.get_current_span(context).get_span_context()
    if not remote.is_valid or remote.trace_flags.sampled:
        return context
    return trace.set_span_in_context(NonRecordingSpan(_flagged(remote, TraceFlags.SAMPLED)))


def _flagged(span: SpanContext, flags: int) -> SpanContext:
    return SpanContext(span.trace_id, span.span_id, span.is_remote, TraceFlags(flags), span.trace_state)


def _attributes(operation: str, template: str, subject: str, more: _Attributes) -> dict[str, AttributeValue]:
    """As the messaging conventions name them; the conversation is the session."""
    return {
        "messaging.system": "nats",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": subject,
        "messaging.destination.template": template,
        "messaging.message.conversation_id": subjects.session_in(subject),
        **more,
    }


@contextmanager
def failing_span(
    tracer: trace.Tracer, name: str, spared: tuple[type[Exception], ...] = (), **options: Any
) -> Iterator[Span]:
    """A current span that what is raised within it marks as failed, but for what is `spared`."""
    with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False, **options) as span:
        try:
            yield span
        except spared:
            raise
        except Exception as error:
            mark_failed(error)
            raise


@contextmanager
def received(
    name: str, headers: Mapping[str, str], *, trusted: bool, refusals: tuple[type[Exception], ...]
) -> Iterator[Span]:
    """A span around what a client asks for, whose `headers` may carry a trace of its own.

    The trace of one who is `trusted` is gone on with, as recorded as it is there. That of others is linked alone: they
    neither choose in what trace they are nor whether it is recorded. What raises one of `refusals` has not failed.
    """
    theirs = extract(headers)
    with failing_span(
        _tracer,
        name,
        refusals,
        context=theirs if trusted else Context(),
        kind=SpanKind.SERVER,
        links=[] if trusted else _links(theirs),
    ) as span:
        yield span


@contextmanager
def sent(template: str, subject: str, size: int) -> Iterator[None]:
    """A span `send {template}` around the publishing of a message of `size` bytes, which carries its context."""
    attributes = _attributes("send", template, subject, {"messaging.message.body.size": size})
    with failing_span(_tracer, f"send {template}", kind=SpanKind.PRODUCER, attributes=attributes):
        yield


@contextmanager
def sent_if_recorded(template: str, subject: str, size: int) -> Iterator[None]:
    """The same where the current span is recorded, else nothing: an unrecorded hop must cost nothing."""
    if not trace.get_current_span().is_recording():
        yield
        return
    with sent(template, subject, size):
        yield


@contextmanager
def processed(
    template: str,
    subject: str,
    context: Context,
    *,
    record: bool = False,
    attributes: _Attributes | None = None,
) -> Iterator[Span]:
    """A span `process {template}` around the work on a message that came with `context`: its parent, and a link.

    `record` makes it recorded even where the context says that it need not be.
    """
    with _tracer.start_as_current_span(
        f"process {template}",
        context=_recorded(context) if record else context,
        kind=SpanKind.CONSUMER,
        links=_links(context),
        attributes=_attributes("process", template, subject, attributes or {}),
    ) as span:
        yield span


def record_failed(
    template: str, subject: str, context: Context, began_ns: int, error: str, attributes: _Attributes
) -> None:
    """The span of work that was not to be recorded, and failed. `began_ns` is since 1970."""
    span = _tracer.start_span(
        f"process {template}",
        context=_recorded(context),
        kind=SpanKind.CONSUMER,
        links=_links(context),
        attributes=_attributes("process", template, subject, attributes),
        start_time=began_ns,
    )
    span.set_attribute("error.type", error)
    span.set_status(Status(StatusCode.ERROR, error))
    span.end()


@contextmanager
def batched(name: str, spans: Sequence[SpanContext], **attributes: AttributeValue) -> Iterator[None]:
    """A span around what is done for several at once: a child of the first of their spans, with a link to each."""
    if not spans:
        yield
        return
    context = trace.set_span_in_context(NonRecordingSpan(spans[0]), Context())
    links = [Link(span) for span in spans]
    with _tracer.start_as_current_span(name, context=context, kind=SpanKind.CLIENT, links=links, attributes=attributes):
        yield


def _links(context: Context) -> list[Link]:
    creation = trace.get_current_span(context).get_span_context()
    return [Link(creation)] if creation.is_valid else []


def mark_failed(error: BaseException) -> None:
    """Says on the current span that its work failed."""
    span = trace.get_current_span()
    span.record_exception(error)
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR, str(error)))
