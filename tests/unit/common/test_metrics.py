"""The declared metrics, held against their document."""

from __future__ import annotations

import re
from pathlib import Path

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from libs.common.metrics import DECLARED, at_zero, prometheus_name

TABLE = Path(__file__).parents[3] / "docs/telemetry.md"


def row(name: str) -> str:
    """A metric's line of the table."""
    declared = DECLARED[name]
    labels = ", ".join(f"`{label}`" for label in declared.labels)
    return f"| `{name}` | {labels} | {declared.kind}, {declared.unit}: {declared.text} |"


def test_the_document_has_every_metric_as_it_is_declared() -> None:
    rows = re.findall(r"^\| `pinstream\..*$", TABLE.read_text(), re.MULTILINE)
    assert rows == [row(name) for name in DECLARED]


def test_names_are_nouns_of_this_system_and_times_are_seconds() -> None:
    for name, declared in DECLARED.items():
        assert re.fullmatch(r"pinstream(\.[a-z_]+)+", name)
        assert declared.unit in ("s", "By", "1") or re.fullmatch(r"\{[a-z]+\}", declared.unit)
        assert declared.text.endswith(".")
    assert len(set(map(prometheus_name, DECLARED))) == len(DECLARED)


def test_a_counter_begins_with_all_of_the_values_of_its_labels_together() -> None:
    reader = InMemoryMetricReader()
    counter = MeterProvider([reader]).get_meter("test").create_counter("answers")
    at_zero(counter, target=("feed", "page"), status=iter(("200", "429")))
    told = reader.get_metrics_data()
    assert told is not None
    points = told.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    begun = set()
    for one in points:
        assert isinstance(one, NumberDataPoint) and one.attributes is not None and one.value == 0
        begun.add((one.attributes["target"], one.attributes["status"]))
    assert begun == {("feed", "200"), ("feed", "429"), ("page", "200"), ("page", "429")}
