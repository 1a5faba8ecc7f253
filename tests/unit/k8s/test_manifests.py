"""Every manifest is valid, and what the validation refuses."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from scripts.manifests import K8S, VERSIONS, NotRendered, Object, rendered, wrong
from tests.unit.k8s.rendering import (
    OVERLAYS,
    SERVICES,
    containers,
    documented,
    environ,
    of_kind,
    over,
    overlay,
    pod,
    seccomp,
    workloads,
)

every_overlay = pytest.mark.parametrize("name", OVERLAYS)
CHANGED = ("Deployment/dedup", "Service/gateway", "Service/nats", "ScaledObject/crawler")
SOLVER = {"acme.cert-manager.io/http01-solver": "true"}  # of cert-manager's own pods
# made by scripts/k8s-secrets (test_secrets.py) and by cert-manager
SECRETS = {"nats-server-keys", "gateway-tls", "nats-tls", *(f"nats-{user}" for user in ("streams", *SERVICES))}


@every_overlay
def test_an_overlay_is_valid(name: str) -> None:
    known = overlay("production") if name == "production-tls" else ()
    new = [found for found in overlay(name) if found not in known]
    assert new and wrong(new, VERSIONS[:1]) == []  # of the newest scripts/check asks too


@pytest.mark.parametrize("name", ["seccomp", "overlays/production-seccomp"])
def test_the_seccomp_profiles_installation_is_valid(name: str) -> None:
    assert wrong(list(seccomp(name))) == []


def test_the_documented_overlay_changes_what_it_names() -> None:
    objects = over(documented("TRUSTED_PROXIES"))
    assert {meta["namespace"] for meta in _namespaced(objects)} == {"pinstream"}
    [container] = pod(workloads(objects)["gateway"])["containers"]
    assert container["image"] == "registry.example.net/pinstream-gateway:v0.1.0"
    assert environ(objects, "gateway")["ALLOWED_ORIGINS"] == "https://app.example.net"
    [rule] = of_kind(objects, "Ingress")["gateway"]["spec"]["rules"]
    assert rule["host"] == "pinstream.example.net"


def test_the_documented_command_sets_an_image_that_production_has() -> None:
    text = (K8S.parent / "docs" / "kubernetes.md").read_text()
    [name] = re.findall(r"kustomize edit set image (\S+)=", text)
    pinned = over(f"resources: [../production]\nimages: [{{name: {name}, digest: 'sha256:{'0' * 64}'}}]\n")
    assert [one for each in workloads(pinned).values() for one in containers(each) if "@sha256:" in one["image"]]


def test_with_helm_nothing_is_made_that_the_chart_makes() -> None:
    objects = over("resources: [../production]\ncomponents: [../../components/broker-by-helm]\n")
    kinds = ("StatefulSet", "Service", "PodDisruptionBudget", "ServiceAccount")
    assert not {"nats", "nats-headless"} & {name for kind in kinds for name in of_kind(objects, kind)}
    others = {(found["kind"], found["metadata"]["name"]) for found in overlay("production")}
    left_out = others - {(found["kind"], found["metadata"]["name"]) for found in objects}
    assert {name for _, name in left_out} == {"nats", "nats-headless"} and len(left_out) == 5


def test_a_cell_names_nothing_of_another_namespace() -> None:
    objects = over(documented("transformers"))
    assert {meta["namespace"] for meta in _namespaced(objects)} == {"cell-b"}
    assert of_kind(objects, "Namespace").keys() == {"cell-b"}
    assert wrong(list(of_kind(objects, "ScaledObject").values()), VERSIONS[:1]) == []
    triggers = {
        service: [trigger["metadata"] for trigger in scaled["spec"]["triggers"]]
        for service, scaled in of_kind(objects, "ScaledObject").items()
    }
    [asked] = triggers.pop("gateway")
    assert 'namespace="cell-b"' in asked["query"]
    assert triggers.keys() == set(SERVICES) - {"gateway"}
    for trigger in (trigger for each in triggers.values() for trigger in each):
        assert trigger["natsServerMonitoringEndpoint"] == "nats-headless.cell-b.svc.cluster.local:8222"


def _namespaced(objects: tuple[Object, ...]) -> list[dict[str, Any]]:
    return [found["metadata"] for found in objects if found["kind"] != "Namespace"]


def test_the_operators_prometheus_reads_every_service_and_names_the_job_after_it() -> None:
    text = (K8S.parent / "docs" / "kubernetes.md").read_text()
    [monitor] = [
        yaml.safe_load(block)["spec"]
        for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
        if "PodMon" in block
    ]
    read = {
        name: found["spec"]["template"]["metadata"]["labels"]
        for name, found in workloads(overlay("production")).items()
        if _matches(monitor["selector"], found["spec"]["template"]["metadata"]["labels"])
    }
    assert {labels[monitor["jobLabel"]] for labels in read.values()} == read.keys() == set(SERVICES)
    [endpoint] = monitor["podMetricsEndpoints"]
    for name in read:
        notes = workloads(overlay("production"))[name]["spec"]["template"]["metadata"]["annotations"]
        [container] = containers(workloads(overlay("production"))[name])
        ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
        assert ports[endpoint["port"]] == notes["prometheus.io/port"]
        assert endpoint["path"] == notes["prometheus.io/path"]


@every_overlay
def test_what_an_object_names_is_there(name: str) -> None:
    objects = overlay(name)
    maps, accounts, services = (of_kind(objects, kind) for kind in ("ConfigMap", "ServiceAccount", "Service"))
    for workload in workloads(objects).values():
        spec = pod(workload)
        assert spec["serviceAccountName"] in accounts
        for container in spec["containers"]:
            assert {source["configMapRef"]["name"] for source in container.get("envFrom", [])} <= maps.keys()
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            claims = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
            assert mounted == {volume["name"] for volume in spec["volumes"]} | claims
        for volume in spec["volumes"]:
            for source in [volume, *volume.get("projected", {}).get("sources", [])]:
                if "configMap" in source:
                    assert source["configMap"]["name"] in maps
                if "secret" in source:
                    assert (source["secret"].get("secretName") or source["secret"]["name"]) in SECRETS
        if "serviceName" in workload["spec"]:
            assert workload["spec"]["serviceName"] in services
    for service in services.values():
        chosen = [found for found in workloads(objects).values() if _selects(service["spec"]["selector"], found)]
        assert len(chosen) == 1, service["metadata"]["name"]
        named = {port["name"] for port in pod(chosen[0])["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named
    for ingress in of_kind(objects, "Ingress").values():
        for rule in ingress["spec"]["rules"]:
            [path] = rule["http"]["paths"]
            backend = path["backend"]["service"]
            assert backend["port"]["name"] in {port["name"] for port in services[backend["name"]]["spec"]["ports"]}
        assert {tls["secretName"] for tls in ingress["spec"]["tls"]} <= SECRETS
    for scaled in of_kind(objects, "ScaledObject").values():
        assert scaled["spec"]["scaleTargetRef"]["name"] in of_kind(objects, "Deployment")
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        for found in of_kind(objects, kind).values():
            selector = found["spec"].get("selector") or found["spec"]["podSelector"]
            names = [{"app.kubernetes.io/name": name} for name in workloads(objects)] + [SOLVER]
            assert any(_matches(selector, labels) for labels in names), found["metadata"]["name"]


def _selects(selector: dict[str, str], workload: Object) -> bool:
    labels: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return selector.items() <= labels.items()


def _matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    return all(labels.get(part["key"]) in part["values"] for part in selector.get("matchExpressions", []))


@every_overlay
def test_all_but_the_namespace_is_in_it_and_labelled(name: str) -> None:
    for found in overlay(name):
        meta = found["metadata"]
        if found["kind"] != "Namespace":
            assert meta["namespace"] == "pinstream"
        if found["kind"] in ("Deployment", "StatefulSet", "Job", "Service"):
            assert meta["labels"]["app.kubernetes.io/name"] == meta["name"].removesuffix("-headless")
        assert meta["labels"]["app.kubernetes.io/part-of"] == "pinstream"


def _broken(change: Callable[[dict[str, Object]], object]) -> list[str]:
    """What is said of the objects that the change is made to, which were right before."""
    found = {f"{one['kind']}/{one['metadata']['name']}": one for one in copy.deepcopy(overlay("production"))}
    chosen = {name: found[name] for name in CHANGED}
    assert wrong(list(chosen.values()), VERSIONS[-1:]) == []
    change(chosen)
    return wrong(list(chosen.values()), VERSIONS[-1:])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: pod(found["Deployment/dedup"]).update(automountServiceAccountTokens=False), "Deployment dedup"),
        (lambda found: pod(found["Deployment/dedup"]).update(terminationGracePeriodSeconds="45"), "Deployment dedup"),
        (lambda found: found["Deployment/dedup"]["spec"].pop("selector"), "Deployment dedup"),
        (lambda found: found["Service/gateway"].update(apiVersion="v2"), "Service gateway: v2 is not known"),
        (lambda found: found["ScaledObject/crawler"]["spec"].update(minReplicas=0), "ScaledObject crawler"),
        (lambda found: found["ScaledObject/crawler"]["spec"]["triggers"][0]["metadata"].pop("account"), "ScaledObject"),
        (
            lambda found: found["ScaledObject/crawler"]["spec"]["triggers"][0]["metadata"].update(lagThreshold=5),
            "ScaledObject crawler",
        ),
        (lambda found: found["Service/nats"]["metadata"].update(name="gateway"), "Service gateway: 2 of that name"),
    ],
)
def test_a_broken_manifest_is_refused(change: Callable[[dict[str, Object]], object], said: str) -> None:
    lines = _broken(change)
    assert lines
    assert all(said in line for line in lines), lines


def test_a_folder_that_kustomize_refuses_is_an_error_in_its_words() -> None:
    with pytest.raises(NotRendered, match="kustomization"):
        rendered(K8S / "schemas")
