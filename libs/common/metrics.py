"""Every metric, with its unit, its labels and a sentence, and how they leave the process: by `/metrics`, and by OTLP.

Times are seconds. No label is an id, an address or a text that others choose: each has a handful of values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import NamedTuple

from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Counter, Histogram, UpDownCounter
from opentelemetry.metrics import _Gauge as Gauge
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest

from libs.common.settings import Settings

SHUTDOWN_MS = 5_000  # for the last export
CONTENT_TYPE = CONTENT_TYPE_LATEST

# The default bounds are for milliseconds: of seconds they put all that is under five into one bucket.
ANSWER_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
WORK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600)
FIRST_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300)
DELIVERY_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 40, 60, 120)


class Declared(NamedTuple):
    """What is known of a metric; `kind` as Prometheus has it, `bounds` of a histogram's buckets."""

    kind: str
    unit: str
    text: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


DECLARED: dict[str, Declared] = {}

_meter = metrics.get_meter("pinstream")
_registry = CollectorRegistry()
ProcessCollector(registry=_registry)


def _counter(name: str, unit: str, text: str, *labels: str) -> Counter:
    DECLARED[name] = Declared("counter", unit, text, labels)
    return _meter.create_counter(name, unit, text)


def _gauge(name: str, unit: str, text: str, *labels: str) -> Gauge:
    DECLARED[name] = Declared("gauge", unit, text, labels)
    return _meter.create_gauge(name, unit, text)


def _level(name: str, unit: str, text: str, *labels: str) -> UpDownCounter:
    """A gauge that is told of changes."""
    DECLARED[name] = Declared("gauge", unit, text, labels)
    return _meter.create_up_down_counter(name, unit, text)


def _histogram(name: str, bounds: tuple[float, ...], text: str, *labels: str) -> Histogram:
    bounds = tuple(map(float, bounds))  # Prometheus reads 5 and 5.0 as two labels
    DECLARED[name] = Declared("histogram", "s", text, labels, bounds)
    return _meter.create_histogram(name, "s", text, explicit_bucket_boundaries_advisory=bounds)


# each stage: crawler, transformer, dedup, deadlines

stage_duration = _histogram(
    "pinstream.stage.duration",
    WORK_S,
    "How long a stage had a message in hand, by what came of it: done, later, failed (it comes again), cancelled,"
    " superseded, quarantined, dead_letter, stopped.",
    "stage",
    "outcome",
)
stage_errors = _counter(
    "pinstream.stage.errors", "{error}", "Failures while messages were handled, by their type.", "stage", "error"
)
stage_redelivered = _counter(
    "pinstream.stage.redelivered",
    "{message}",
    "Messages that came to a stage again; to deadlines and postmen they do by design.",
    "stage",
)
dead_letters = _counter(
    "pinstream.dead_letters", "{message}", "Messages that a stage could not handle and that are kept.", "stage"
)

# the queues between them; every gateway tells the same of them, so aggregate by max

queue_depth = _gauge("pinstream.queue.depth", "{message}", "Messages that wait for a stage.", "durable")
queue_in_flight = _gauge(
    "pinstream.queue.in_flight", "{message}", "Messages that were handed out and are not answered yet.", "durable"
)
queue_redelivered = _gauge(
    "pinstream.queue.redelivered", "{message}", "Those of them that were handed out more than once.", "durable"
)
queue_oldest_age = _gauge(
    "pinstream.queue.oldest_age", "s", "Age of the oldest message without an answer, by the broker's clock.", "durable"
)
stream_messages = _gauge("pinstream.stream.messages", "{message}", "Messages that a stream holds.", "stream")
stream_bytes = _gauge("pinstream.stream.size", "By", "Bytes that a stream holds.", "stream")
stream_fill = _gauge("pinstream.stream.fill", "1", "What it holds, as a share of what it may.", "stream")
broker_round_trip = _histogram("pinstream.broker.round_trip", ANSWER_S, "Time of a request to the broker.")
broker_disconnects = _counter("pinstream.broker.disconnects", "{disconnect}", "Losses of the link to the broker.")
measured_at = _gauge("pinstream.broker.measured_at", "s", "When a gateway last read queues and streams, in Unix time.")

# sessions

sessions_begun = _counter("pinstream.sessions.begun", "{session}", "Sessions begun.", "source")
sessions_ended = _counter("pinstream.sessions.ended", "{session}", "Crawls closed, by the reason.", "reason")
sessions_active = _gauge(
    "pinstream.sessions.active", "{session}", "Sessions under way, the same at every gateway: aggregate by max.",
    "state",
)  # fmt: skip
sessions_longest_wait = _gauge(
    "pinstream.sessions.longest_wait",
    "s",
    "How long the session has waited that waits longest for a crawler, 0 where none does; aggregate by max.",
)
first_video = _histogram(
    "pinstream.session.first_video",
    FIRST_S,
    "From a client's request to its session's first video at the gateway that took it, by one clock.",
)
delivery = _histogram(
    "pinstream.delivery.duration",
    DELIVERY_S,
    "From a video's capture by a crawler to its frame out; clocks of two machines, and never less than 0.",
    "protocol",
)

# the gateway

open_sockets = _level("pinstream.gateway.open_sockets", "{socket}", "Connections that are followed.", "protocol")
gateway_refusals = _counter(
    "pinstream.gateway.refusals", "{refusal}", "Operations and requests refused, by code.", "protocol", "code"
)
gateway_closes = _counter(
    "pinstream.gateway.closes", "{connection}", "WebSockets that the gateway closed, by close code.", "code"
)
gateway_loop_lag = _gauge(
    "pinstream.gateway.loop_lag", "s", "How long half of all waits for the event loop at least, in the last 3 s."
)

# the site, and its CDN

site_responses = _counter(
    "pinstream.site.responses", "{response}", "Answers to requests, by HTTP status or what came instead.", "target",
    "status",
)  # fmt: skip
site_duration = _histogram("pinstream.site.duration", ANSWER_S, "Time of a request to the site or its CDN.", "target")
site_circuit = _gauge(
    "pinstream.site.circuit", "{state}", "A lane's circuit: 0 closed, 1 open, 2 a probe is on its way.", "lane"
)
site_held = _gauge("pinstream.site.held", "s", "How long nothing may be asked in a lane, from now.", "lane")
site_refusals = _gauge("pinstream.site.refusals", "{refusal}", "Refusals of the site in a row.", "lane")
circuit_opened = _counter("pinstream.site.circuit_opened", "{opening}", "How often a circuit was opened, or again.")

# the crawler

crawler_pages = _counter("pinstream.crawler.pages", "{page}", "Pages of results read.", "way")
crawler_items = _counter("pinstream.crawler.items", "{item}", "Items emitted.")
unknown_answers = _counter(
    "pinstream.crawler.unknown_answers",
    "{answer}",
    "Answers of the site of an unknown shape, by `what`: fields of pins, the cursor, or refused as a whole.",
    "what",
)
browser_contexts = _gauge("pinstream.browser.contexts", "{context}", "Browser contexts that are open.", "state")
browser_sessions = _gauge("pinstream.browser.sessions", "{session}", "Sessions that have a tab.")
browser_memory = _gauge("pinstream.browser.memory", "By", "Memory of Chromium and its driver, what is shared once.")
browser_recycles = _counter(
    "pinstream.browser.recycles", "{browser}", "Chromiums replaced, by why: age, sessions, memory, gone.", "why"
)

canary_ok = _gauge("pinstream.canary.ok", "1", "Whether the site was as it is known: 1, or 0.")
canary_vanished = _gauge("pinstream.canary.vanished", "{field}", "Known fields that the site dropped.")
canary_new = _gauge("pinstream.canary.new", "{field}", "Fields that are not known.")
canary_run_at = _gauge("pinstream.canary.run_at", "s", "When the canary last ran, in Unix time.")
canary_runs = _counter(
    "pinstream.canary.runs", "{run}", "Runs of the canary, by `result`: ok, changed, or why the site was not read.",
    "result",
)  # fmt: skip

# the transformer

verifications = _counter(
    "pinstream.verifications",
    "{item}",
    "Items resolved, by kind of link (none: no usable media), whether it was verified, and whether it was remembered.",
    "kind",
    "verified",
    "remembered",
)

# dedup

outcomes = _counter(
    "pinstream.outcomes",
    "{item}",
    "Outcomes: video, repeat (the session has it), seen (its scope has), filtered, unavailable.",
    "outcome",
)

# webhooks

webhook_posts = _counter(
    "pinstream.gateway.webhook_posts",
    "{post}",
    "Posts to receivers of webhooks: delivered, failed, refused (an address that is not public), gone.",
    "outcome",
)
webhook_post_s = _histogram(
    "pinstream.gateway.webhook_post_duration", WORK_S, "How long receivers of webhooks took to answer.", "outcome"
)
webhooks_over = _counter(
    "pinstream.gateway.webhooks_over",
    "{session}",
    "Sessions of which nothing more is posted: delivered, gone, given_up, expired, failed.",
    "why",
)


def at_zero(counter: Counter | UpDownCounter, **labels: Iterable[str]) -> None:
    """Begins its series, for all these values of its labels: of one that begins at 1 no rate or increase sees that."""
    for values in product(*labels.values()):
        counter.add(0, dict(zip(labels, values, strict=True)))


def exposition() -> bytes:
    """The metrics of this process as Prometheus reads them, CONTENT_TYPE."""
    return generate_latest(_registry)


@contextmanager
def exported(settings: Settings, resource: Resource) -> Iterator[None]:
    """Has them at `exposition`, and sends them by OTLP, where there is an endpoint.

    That is every OTEL_METRIC_EXPORT_INTERVAL ms (60,000), and at the end.
    """
    readers: Sequence[MetricReader] = [PrometheusMetricReader(scope_info_enabled=False, registry=_registry)]
    if settings.otel_exporter_otlp_endpoint is not None and settings.otel_metrics_exporter == "otlp":
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        readers = [*readers, PeriodicExportingMetricReader(OTLPMetricExporter())]
    provider = MeterProvider(readers, resource)
    metrics.set_meter_provider(provider)
    try:
        yield
    finally:
        provider.shutdown(timeout_millis=SHUTDOWN_MS)


def prometheus_name(name: str) -> str:
    """The name that Prometheus has a metric under, without `_bucket`, `_count` or `_sum`."""
    declared = DECLARED[name]
    unit = {"s": "_seconds", "By": "_bytes"}.get(declared.unit, "")
    return name.replace(".", "_") + unit + ("_total" if declared.kind == "counter" else "")
