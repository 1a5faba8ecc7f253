"""What KEDA would read for each ScaledObject, of a broker that deploy/nats configures and the set-up job sets up."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvloop

from libs.client.broker import Broker, free_port
from libs.common import broker_keys, subjects
from libs.common.bus import connect
from libs.common.metrics import DECLARED, prometheus_name
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, set_up
from services.crawler.settings import CrawlerSettings
from services.gateway.settings import GatewaySettings
from tests.unit.containers.dockerfile import ROOT
from tests.unit.k8s.rendering import SERVICES, environ, of_kind, overlay, pod, workloads

SCALED = of_kind(overlay("production"), "ScaledObject")
TRIGGERS = [
    pytest.param(service, trigger["metadata"], id=f"{service}-{trigger['metadata']['stream']}")
    for service in SERVICES
    for trigger in SCALED[service]["spec"]["triggers"]
    if trigger["type"] == "nats-jetstream"
]
every_trigger = pytest.mark.parametrize(("service", "trigger"), TRIGGERS)


class Configured:
    """A broker with deploy/nats' accounts, and how KEDA sees it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.monitor = folder, free_port()
        shutil.copy(ROOT / "deploy" / "nats" / "accounts.conf", folder)
        broker_keys.make(folder)
        (folder / "keys").symlink_to(folder / "server")
        config = f'include "accounts.conf"\nhttp: "127.0.0.1:{self.monitor}"\n'
        self.broker = Broker(folder, config=config)

    def settings(self, user: str) -> Settings:
        """Those of a service that knows its own key."""
        return Settings(nats_url=self.broker.url, nats_nkey_file=str(broker_keys.seed_file(self.folder, user)))

    async def set_up(self) -> None:
        """What the set-up job does."""
        async with connect(self.settings("streams"), "streams") as bus:
            await set_up(bus, StreamSettings())

    async def lag(self, trigger: dict[str, str]) -> int | None:
        """As pkg/scalers/nats_jetstream_scaler.go has it: of a durable that is missing, the stream's last sequence."""
        url = f"http://127.0.0.1:{self.monitor}/jsz?acc={trigger['account']}&consumers=true&config=true"
        async with httpx2.AsyncClient() as client:
            answer: dict[str, Any] = (await client.get(url)).json()
        for account in answer.get("account_details", []):
            for stream in account.get("stream_detail", []) if account["name"] == trigger["account"] else []:
                if stream["name"] != trigger["stream"]:
                    continue
                for consumer in stream.get("consumer_detail", []):
                    if consumer["name"] == trigger["consumer"]:
                        return int(consumer["num_pending"] + consumer["num_ack_pending"])
                return int(stream["state"]["last_seq"])
        return None


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    """One for all of these tests."""
    configured = Configured(tmp_path_factory.mktemp("nats"))
    configured.broker.start()
    try:
        uvloop.run(configured.set_up())
        yield configured
    finally:
        configured.broker.stop()


@every_trigger
async def test_the_durable_of_a_trigger_is_there_by_that_name(
    configured: Configured, service: str, trigger: dict[str, str]
) -> None:
    stream, durable = trigger["stream"], trigger["consumer"]
    async with connect(configured.settings("operator"), "operator") as bus:
        subject = {
            subjects.SEARCHES: subjects.search("session"),
            subjects.RAW: subjects.raw("session", "item"),
            subjects.DIRECT: subjects.direct("session", "item"),
            subjects.QUARANTINE: subjects.suspect(service, subjects.search("session")),
        }[stream]
        assert await configured.lag(trigger) == 0
        await bus.publish(subject, b"{}")
        waiting = await configured.lag(trigger)
        assert waiting == 1 > int(trigger["activationLagThreshold"])  # one message wakes it
        await bus.purge(stream, subject)
        assert await configured.lag(trigger) == 0
        await bus.api(f"CONSUMER.DELETE.{stream}.{durable}")
        assert await configured.lag(trigger) == 1  # that nothing waits cannot be seen any more
    await configured.set_up()
    assert await configured.lag(trigger) == 0


def test_every_durable_that_a_service_can_be_scaled_to_zero_for_wakes_it() -> None:
    [*zero] = [service for service in SERVICES if SCALED[service]["spec"]["minReplicaCount"] == 0]
    assert zero == ["crawler"]
    read = {(trigger["metadata"]["stream"], trigger["metadata"]["consumer"]) for trigger in _triggers("crawler")}
    assert read == {
        (subjects.SEARCHES, subjects.CRAWLER),
        (subjects.QUARANTINE, subjects.SUSPECTS_OF[subjects.CRAWLER]),
    }


@every_trigger
def test_keda_asks_where_the_brokers_monitoring_is(service: str, trigger: dict[str, str]) -> None:
    del service
    host, _, port = trigger["natsServerMonitoringEndpoint"].partition(":")
    name, namespace, *domain = host.split(".")
    assert (namespace, domain) == ("pinstream", ["svc", "cluster", "local"])
    headless = of_kind(overlay("production"), "Service")[name]["spec"]
    broker = workloads(overlay("production"))["nats"]
    # of a cluster KEDA looks for the durable's leader at <server's name>.<this host>
    assert headless["clusterIP"] == "None" and broker["spec"]["serviceName"] == name
    [own] = [entry for entry in pod(broker)["containers"][0]["env"] if entry["name"] == "NATS_SERVER_NAME"]
    assert own["valueFrom"] == {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}} or own["valueFrom"] == {
        "fieldRef": {"fieldPath": "metadata.name"}
    }
    assert int(port) in {entry["port"] for entry in headless["ports"]}
    assert f"http: {port}" in (ROOT / "deploy" / "nats" / "server.conf").read_text()


def test_gateways_are_scaled_by_a_metric_that_they_have_and_not_by_their_processor_time() -> None:
    [trigger] = _triggers("gateway")
    assert trigger["type"] == "prometheus"
    name, _, rest = trigger["metadata"]["query"].removeprefix("sum(").partition("{")
    assert name in {prometheus_name(declared) for declared in DECLARED}
    assert rest == 'namespace="pinstream"})'
    assert 0 < int(trigger["metadata"]["threshold"]) < GatewaySettings().connections_most


def test_another_pod_comes_before_one_is_full() -> None:
    sessions = int(environ(overlay("production"), "crawler").get("SESSIONS", CrawlerSettings().sessions))
    assert int(_triggers("crawler")[0]["metadata"]["lagThreshold"]) < sessions


def test_none_is_sent_away_while_its_searches_may_go_on() -> None:
    deadline_s = GatewaySettings().session_deadline_s
    behavior = SCALED["crawler"]["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= deadline_s


def _triggers(service: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = SCALED[service]["spec"]["triggers"]
    return found
