"""Every query of the dashboards and alerts, asked of a real Prometheus that watched a real run."""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

import httpx2
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect as connect_websocket
from websockets.typing import Origin

from libs.client.client import Client
from libs.client.local import LocalStack
from libs.common import metrics, subjects
from libs.common.bus import connect
from libs.common.messages import Over
from libs.common.metrics import DECLARED, prometheus_name
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, streams
from tests.e2e.conftest import Stack
from tests.integration.receiver import Receiver, receiver
from tests.prometheus import Prometheus, prometheus
from tests.wait import wait_for

ROOT = Path(__file__).parents[2]
WINDOW = "15s"
SETTINGS = {
    "WEBHOOK_PRIVATE_HOSTS": "127.0.0.1",
    "MEASURE_S": "0.25",
    "CANARY_INTERVAL_S": "2",
    "CANARY_QUERY": "glaze pins:120 seed:canary",
}
STATES = ("queued", "starting", "crawling", "waiting")  # of sessions under way
BEGIN_AT_ZERO = (
    'pinstream_crawler_unknown_answers_total{what="refused"}',
    'pinstream_site_responses_total{target="feed",status="429"}',
    'pinstream_site_responses_total{target="cdn",status="timed_out"}',
    'pinstream_verifications_total{kind="mp4",verified="no",remembered="no"}',
    'pinstream_stage_errors_total{stage="transformer",error="BrokerUnavailable"}',
    'pinstream_gateway_closes_total{code="4008"}',
    'pinstream_gateway_refusals_total{protocol="rest",code="too_many_sessions"}',
    'pinstream_gateway_webhook_posts_total{outcome="failed"}',
)
OF_THE_SCRAPE = {"namespace", "job", "instance", "le", "__name__"}
_metric = re.compile(r"\b((?:pinstream|process)_\w+|up)\b(?:\{([^}]*)\})?")
_label = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
_by = re.compile(r"\bby \(([^)]*)\)")


def panels() -> dict[str, str]:
    """The query of each target of each panel."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "deploy/grafana/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                name = f"{path.stem}: {panel['title']} {target['refId']}"
                found[name] = target["expr"].replace("$__rate_interval", WINDOW).replace("$namespace", ".*")
    return found


def alerts() -> dict[str, str]:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def declared_of(exposed: str) -> str | None:
    """The declared metric that Prometheus has under this name."""
    base = re.sub(r"_(bucket|count|sum)$", "", exposed)
    return next((name for name in DECLARED if prometheus_name(name) in (exposed, base)), None)


@pytest.mark.parametrize("query", [pytest.param(query, id=name) for name, query in {**panels(), **alerts()}.items()])
def test_a_query_asks_for_declared_metrics_and_their_labels(query: str) -> None:
    known = set(OF_THE_SCRAPE)
    for exposed, selected in _metric.findall(query):
        if exposed.startswith("pinstream"):
            name = declared_of(exposed)
            assert name is not None, f"{exposed} is not declared"
            known |= set(DECLARED[name].labels)
            allowed = OF_THE_SCRAPE | set(DECLARED[name].labels)
            assert set(_label.findall(selected)) <= allowed, f"{exposed} has no such label"
    for labels in _by.findall(query):
        assert {label.strip() for label in labels.split(",")} <= known


async def use(stack: LocalStack, number: int, there: Receiver) -> None:
    """What clients do, and what goes wrong at times."""
    query = f"glaze pins:120 seed:dash{number} fault:renamed_field at:first"
    videos = [video async for video in Client(stack.ws_url).search(query, limit=15, callback_url=there.url)]
    assert len(videos) == 15
    async with connect_websocket(stack.ws_url) as websocket:
        await websocket.send("no JSON")
        assert "invalid_json" in str(await websocket.recv())
    async with connect(Settings(nats_url=stack.nats_url), "test") as bus:
        await bus.publish(subjects.raw(secrets.token_hex(16), "1-0"), b"no JSON either")


async def one_of_a_strange_page(stack: LocalStack) -> None:
    """A WebSocket that is refused before any route sees it."""
    async with connect_websocket(stack.ws_url, origin=Origin("https://elsewhere.example")) as websocket:
        await websocket.wait_closed()
    assert websocket.close_code == 4503


async def test_every_panel_has_data_of_a_real_run(stack_of: Stack, tmp_path: Path) -> None:
    stack = await stack_of(environ=SETTINGS, guarded=False)
    targets: dict[str, list[str]] = {}
    for process in stack.services:
        targets.setdefault(process.service, []).append(f"127.0.0.1:{process.environ['HEALTH_PORT']}")
    async with prometheus(tmp_path, targets) as asked, receiver() as there:
        for series in BEGIN_AT_ZERO:
            assert [value for _, value in await asked.ask(series)] == [0], f"the first of {series} has no rate"
        await use(stack, 1, there)
        await one_of_a_strange_page(stack)
        await wait_for(lambda: _counted(asked), "the first search was scraped")  # only what grows has a rate
        await use(stack, 2, there)
        await _all_have_data(asked)
        await _alerts_ask_for_what_there_is(asked)
        assert await _values(asked, "pinstream_stream_fill", "stream") == {
            stream["name"] for stream in streams(StreamSettings())
        }
        assert await _values(asked, "pinstream_gateway_webhooks_over_total", "why") == set(map(str, Over))
        assert await _values(asked, "pinstream_sessions_active", "state") == {*STATES}
        assert "forbidden_origin" in await _values(asked, "pinstream_gateway_refusals_total", "code")
        assert "4503" in await _values(asked, "pinstream_gateway_closes_total", "code")
    seen = await _exposed([address for told in targets.values() for address in told])
    assert seen == set(DECLARED)
    await _strangers_find_none(stack)


async def _counted(asked: Prometheus) -> bool:
    series = ["pinstream_session_first_video_seconds_count", "sum(pinstream_stage_errors_total)"]
    series += ["pinstream_gateway_refusals_total", "sum(pinstream_gateway_webhooks_over_total)"]
    values = [await asked.ask(one) for one in series]
    return all(value and value[0][1] >= 1 for value in values)


async def _all_have_data(asked: Prometheus) -> None:
    left = dict(panels())
    assert len(left) > 60
    empty: dict[str, object] = {}

    async def none_is_empty() -> bool:
        for name, query in list(left.items()):
            told = await asked.ask(query)
            if any(math.isfinite(value) for _, value in told):
                del left[name]
                empty.pop(name, None)
            else:
                empty[name] = (query, told)
        return not left

    try:
        await wait_for(none_is_empty, "all panels have data", timeout_s=15)
    except AssertionError:
        pytest.fail(f"without data: {json.dumps(empty, indent=1)}")


async def _alerts_ask_for_what_there_is(asked: Prometheus) -> None:
    for name, query in alerts().items():
        for exposed, selected in _metric.findall(query):
            found = await asked.ask(f"last_over_time({exposed}[1m])")  # the last scrape may have failed
            assert found, f"{name}: {exposed} has no series"
            labels = {label for told, _ in found for label in told}
            assert set(_label.findall(selected)) <= labels | {"namespace"}, f"{name}: {exposed} has {labels}"


async def _values(asked: Prometheus, exposed: str, label: str) -> set[str]:
    return {told[label] for told, _ in await asked.ask(f"last_over_time({exposed}[1m])")}


async def _exposed(addresses: Iterable[str]) -> set[str]:
    """The declared metrics that these tell of; nothing else of ours may be among them, and no other label or bound."""
    seen: set[str] = set()
    async with httpx2.AsyncClient(trust_env=False) as client:
        for address in addresses:
            text = (await client.get(f"http://{address}/metrics")).text
            for family in text_string_to_metric_families(text):
                if not family.name.startswith("pinstream"):
                    continue
                for sample in family.samples:
                    name = declared_of(sample.name)
                    assert name is not None, f"{sample.name} is not declared"
                    declared = DECLARED[name]
                    assert set(sample.labels) - {"le"} == set(declared.labels), sample
                    assert family.type == declared.kind
                    assert family.documentation == declared.text
                    if sample.name.endswith("_bucket"):
                        assert float(sample.labels["le"]) in {*declared.bounds, math.inf}
                    seen.add(name)
    return seen


def test_no_bound_is_one_of_the_default_ones_for_milliseconds() -> None:
    for name, declared in DECLARED.items():
        if declared.kind == "histogram":
            assert declared.unit == "s"
            assert sum(bound < 5 for bound in declared.bounds) >= 7, name
            assert list(declared.bounds) == sorted(set(declared.bounds))
    assert metrics.CONTENT_TYPE.startswith("text/plain")


async def _strangers_find_none(stack: LocalStack) -> None:
    """The gateway's own port is for everyone."""
    [gateway] = stack.processes("gateway")
    private = f"http://127.0.0.1:{gateway.environ['HEALTH_PORT']}"
    async with httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{stack.page_url}metrics")).status_code == 404
        assert (await client.get(f"{private}/metrics")).status_code == 200
        assert (await client.get(f"{private}/readyz")).json() == (await client.get(f"{stack.page_url}readyz")).json()
