"""The alert rules: Prometheus's own tests of them, and that each says what to do."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from libs.common.streams import StreamSettings, streams
from tests.prometheus import program
from tests.unit.containers.dockerfile import images
from tests.unit.k8s.rendering import SERVICES, overlay, workloads

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/prometheus"


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def promtool(*arguments: str) -> str:
    done = subprocess.run([program("promtool"), *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_rules_and_its_configuration() -> None:
    promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "--syntax-only", "prometheus.yml")


def found_in_kubernetes(service: str) -> dict[str, str]:
    """The labels that Prometheus's discovery has of a pod, as the manifests make it."""
    template = workloads(overlay("production"))[service]["spec"]["template"]
    meta = {"namespace": "pinstream", "pod_ip": "10.42.0.7", "pod_phase": "Running"}
    for kind in ("label", "annotation"):
        for name, value in template["metadata"][f"{kind}s"].items():
            meta[f"pod_{kind}_{re.sub(r'[^a-zA-Z0-9]', '_', name)}"] = value
    return {f"__meta_kubernetes_{name}": value for name, value in meta.items()}


def test_by_the_documented_configuration_a_pod_is_known_by_its_service(tmp_path: Path) -> None:
    text = (ROOT / "docs/kubernetes.md").read_text()
    [block] = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "scrape_configs" in block]
    file = tmp_path / "prometheus.yml"
    config = yaml.safe_load(block)
    [job] = config["scrape_configs"]
    assert job.pop("kubernetes_sd_configs")[0]["role"] == "pod"
    seen = {service: found_in_kubernetes(service) for service in SERVICES}
    pods = {**seen, "none": {**seen["gateway"], "__meta_kubernetes_pod_phase": "Pending"}}
    # by hand: Debian's Prometheus cannot discover pods
    job["static_configs"] = [{"targets": [f"{pod}:80"], "labels": meta} for pod, meta in pods.items()]
    file.write_text(yaml.safe_dump(config))
    # it waits that long, whatever it has found
    told = json.loads(promtool("check", "service-discovery", "--timeout", "5s", str(file), job["job_name"]))
    labelled = [target["labels"] for target in told if target["labels"]]  # one that does not run is not looked for
    assert len(told) == len(pods) and len(labelled) == len(SERVICES)
    found = {labels["job"]: labels for labels in labelled}
    assert found.keys() == set(SERVICES)
    for service, labels in found.items():
        assert (labels["job"], labels["namespace"], labels["__metrics_path__"]) == (service, "pinstream", "/metrics")
        assert labels["__address__"] == f"10.42.0.7:{images()[service].environ['HEALTH_PORT']}"


def test_every_alert_fires_when_it_should_and_not_before() -> None:
    files = ("alerts_test.yml", "alerts_quiet_test.yml")
    tests = [test for file in files for test in yaml.safe_load((FOLDER / file).read_text())["tests"]]
    quiet: set[str] = set()
    fired: set[str] = set()
    for test in tests:
        for case in test["alert_rule_test"]:
            (fired if case["exp_alerts"] else quiet).add(case["alertname"])
    assert quiet == fired == {rule["alert"] for rule in rules()}
    promtool("test", "rules", *files)


def test_no_alert_waits_for_less_than_two_of_its_windows() -> None:
    """Else one bad moment is an alert when it is long over."""
    for rule in rules():
        windows = [int(minutes) for minutes in re.findall(r"\brate\([^[]*\[(\d+)m\]", rule["expr"])]
        if windows:
            assert 2 * max(windows) <= int(rule["for"].removesuffix("m")), rule["alert"]


def test_of_streams_that_forget_their_oldest_none_is_told_that_it_is_full() -> None:
    [expression] = [rule["expr"] for rule in rules() if rule["alert"] == "StreamNearlyFull"]
    [pattern] = re.findall(r'stream!~"([^"]+)"', expression)
    forgetting = {stream["name"]: stream["discard"] == "old" for stream in streams(StreamSettings())}
    assert {name: re.fullmatch(pattern, name) is not None for name in forgetting} == forgetting


def test_every_alert_leads_to_a_section_that_says_what_to_do() -> None:
    text = (ROOT / "docs/runbooks.md").read_text()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert set(sections) == {rule["alert"] for rule in rules()}
    for rule in rules():
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        for part in ("**Means:**", "**See:**", "**Do:**"):
            assert part in sections[rule["alert"]], f"{rule['alert']} lacks {part}"


def test_the_dashboards_are_as_they_are_made() -> None:
    done = subprocess.run([str(ROOT / "deploy/grafana/make"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
