"""Every metric, with its unit and a sentence, and how they leave the process: by OTLP, where there is an endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource

from libs.common.settings import Settings

SHUTDOWN_MS = 5_000  # for the last export

_meter = metrics.get_meter("pinstream")

canary_ok = _meter.create_gauge("pinstream.canary.ok", "1", "Whether the site was as it is known: 1, or 0.")
canary_vanished = _meter.create_gauge("pinstream.canary.vanished", "{field}", "Known fields that the site dropped.")
canary_new = _meter.create_gauge("pinstream.canary.new", "{field}", "Fields that are not known.")
canary_run_at = _meter.create_gauge("pinstream.canary.run_at", "s", "When the canary last ran, in Unix time.")
canary_runs = _meter.create_counter(
    "pinstream.canary.runs", "{run}", "Runs of the canary, by `result`: ok, changed, or why the site was not read."
)
unknown_answers = _meter.create_counter(
    "pinstream.crawler.unknown_answers",
    "{answer}",
    "Answers of the site of an unknown shape, by `what`: fields of pins, the cursor, or refused as a whole.",
)
webhook_posts = _meter.create_counter(
    "pinstream.gateway.webhook_posts",
    "{post}",
    "Posts to receivers of webhooks, by `outcome`: delivered, failed, refused (an address that is not public), gone.",
)
webhook_post_s = _meter.create_histogram(
    "pinstream.gateway.webhook_post_duration", "s", "How long receivers of webhooks took to answer, by `outcome`."
)
webhooks_over = _meter.create_counter(
    "pinstream.gateway.webhooks_over",
    "{session}",
    "Sessions of which nothing more is posted, by `why`: delivered, gone, given_up, expired, failed.",
)


@contextmanager
def exported(settings: Settings, resource: Resource) -> Iterator[None]:
    """Sends them every OTEL_METRIC_EXPORT_INTERVAL ms (60,000) and at the end; without an endpoint they are dropped."""
    if settings.otel_exporter_otlp_endpoint is None:
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    provider = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource)
    metrics.set_meter_provider(provider)
    try:
        yield
    finally:
        provider.shutdown(timeout_millis=SHUTDOWN_MS)
