"""Who may reach whom, held against what the code needs."""

from __future__ import annotations

import ipaddress
import re
import textwrap
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from services.gateway.webhooks.target import FREE_PORTS, MOST_PORT
from tests.unit.containers.dockerfile import ROOT, images
from tests.unit.k8s.rendering import OVERLAYS, SERVICES, documented, environ, of_kind, over, overlay, pod, workloads

BROKER_TLS = "nats-tls"
HTTPS = {"protocol": "TCP", "port": 443}
NAMED = "app.kubernetes.io/name"
PRIVATE = [
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
    *("169.254.0.0/16", "127.0.0.0/8", "fc00::/7", "fe80::/10", "::1/128", "64:ff9b::/96"),
]
every_overlay = pytest.mark.parametrize("name", OVERLAYS)


def _policies(name: str, workload: str, way: str) -> list[dict[str, Any]]:
    """The rules of one direction (`ingress`, `egress`) that apply to a workload's pods."""
    rules = []
    for policy in of_kind(overlay(name), "NetworkPolicy").values():
        chosen = policy["spec"]["podSelector"]
        labels = {**chosen.get("matchLabels", {})}
        names = [value for part in chosen.get("matchExpressions", []) for value in part["values"]]
        if (not chosen) or labels == {NAMED: workload} or workload in names:
            rules += policy["spec"].get(way, [])
    return rules


def _outside(name: str, workload: str) -> list[dict[str, Any]]:
    return [rule for rule in _policies(name, workload, "egress") if any("ipBlock" in to for to in rule["to"])]


@every_overlay
def test_nothing_goes_in_or_out_that_no_policy_names(name: str) -> None:
    deny = of_kind(overlay(name), "NetworkPolicy")["default-deny"]["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in of_kind(overlay(name), "NetworkPolicy").values():
        for way, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(way, []):
                assert rule.get(peers) and rule.get("ports"), policy["metadata"]["name"]


def test_crawler_and_transformer_alone_go_outside_and_the_gateway_where_it_is_let() -> None:
    names = workloads(overlay("production"))
    assert {name for name in names if _outside("production", name)} == {"crawler", "transformer", "gateway"}
    assert not any(_outside("local", name) for name in workloads(overlay("local")))
    component = of_kind(overlay("production"), "NetworkPolicy")["gateway-outside"]
    [rule] = component["spec"]["egress"]
    assert [{**rule, "ports": [HTTPS]}] == _outside("production", "crawler")


@pytest.mark.parametrize("workload", ["crawler", "transformer", "gateway"])
def test_outside_is_https_and_no_private_network(workload: str) -> None:
    for rule in _outside("production", workload):
        free = {"protocol": "TCP", "port": FREE_PORTS, "endPort": MOST_PORT}  # of receivers of webhooks
        assert rule["ports"] == ([HTTPS, free] if workload == "gateway" else [HTTPS])
        blocks = [to["ipBlock"] for to in rule["to"]]
        for private in map(ipaddress.ip_network, PRIVATE):
            for block in blocks:
                net = ipaddress.ip_network(block["cidr"])
                if net.version != private.version or not net.overlaps(private):
                    continue
                excepted = [ipaddress.ip_network(entry) for entry in block.get("except", [])]
                assert any(private.subnet_of(entry) for entry in excepted), private  # type: ignore[arg-type]
        public = ipaddress.ip_address("151.101.0.84")
        assert any(public in ipaddress.ip_network(block["cidr"]) for block in blocks)


@every_overlay
@pytest.mark.parametrize("workload", [*SERVICES, "streams"])
def test_a_service_reaches_the_broker_and_the_broker_lets_it_in(name: str, workload: str) -> None:
    url = urlsplit(environ(overlay(name), workload)["NATS_URL"])
    service = of_kind(overlay(name), "Service")[str(url.hostname)]
    assert url.port in {port["port"] for port in service["spec"]["ports"]}
    selector = service["spec"]["selector"]
    assert any(
        {"podSelector": {"matchLabels": selector}} in rule["to"]
        and {"protocol": "TCP", "port": url.port} in rule["ports"]
        for rule in _policies(name, workload, "egress")
    )
    let_in = [
        rule for rule in _policies(name, "nats", "ingress") if {"protocol": "TCP", "port": url.port} in rule["ports"]
    ]
    names = {
        name
        for rule in let_in
        for peer in rule["from"]
        for name in peer["podSelector"]["matchExpressions"][0]["values"]
    }
    assert names == {*SERVICES, "streams"}


def test_a_service_checks_the_broker_by_an_authority_of_which_it_sees_no_key() -> None:
    objects = overlay("production-tls")
    for workload in (*SERVICES, "streams"):
        file = Path(environ(objects, workload)["NATS_CA_FILE"])
        assert environ(objects, workload)["NATS_URL"] == "tls://nats:4222"
        spec = pod(workloads(objects)[workload])
        [volume] = [volume for volume in spec["volumes"] if volume.get("secret", {}).get("secretName") == BROKER_TLS]
        assert volume["secret"]["items"] == [{"key": "ca.crt", "path": file.name}]
        mounts = {mount["mountPath"]: mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
        assert mounts[str(file.parent)] == volume["name"]
    for workload in (*SERVICES, "streams"):
        assert BROKER_TLS not in str(pod(workloads(overlay("production"))[workload]))


def test_the_brokers_certificate_has_every_name_that_it_is_reached_by() -> None:
    objects = overlay("production-tls")
    broker = workloads(objects)["nats"]
    advertised = environ(objects, "nats")["NATS_CLUSTER_ADVERTISE"]
    reached = {str(urlsplit(environ(objects, service)["NATS_URL"]).hostname) for service in SERVICES}
    for number in range(broker["spec"]["replicas"]):
        name = f"{broker['metadata']['name']}-{number}"
        address = advertised.replace("$(NATS_SERVER_NAME)", name)
        assert address == f"{name}.{broker['spec']['serviceName']}:6222"  # as test_secrets.py has the routes
        reached.add(address.removesuffix(":6222"))
    reached.add("localhost")  # by the operator's port-forward
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    [named] = [set(re.findall(r"DNS:([^,\\\s]+)", line)) for line in text.splitlines() if "subjectAltName=" in line]
    [block] = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "kind: Certificate" in block]
    [leaf] = [
        one["spec"]
        for one in yaml.safe_load_all(textwrap.dedent(block))
        if one["kind"] == "Certificate" and not one["spec"].get("isCA")
    ]
    assert named == set(leaf["dnsNames"]) == reached
    assert leaf["secretName"] == BROKER_TLS
    assert {"server auth", "client auth"} <= set(leaf["usages"])


@every_overlay
def test_the_brokers_monitoring_is_for_keda_and_prometheus_alone(name: str) -> None:
    rules = [rule for rule in _policies(name, "nats", "ingress") if {"protocol": "TCP", "port": 8222} in rule["ports"]]
    [peer] = [peer for rule in rules for peer in rule["from"]]
    [expression] = peer["namespaceSelector"]["matchExpressions"]
    assert (expression["key"], expression["values"]) == ("kubernetes.io/metadata.name", ["keda", "monitoring"])


@every_overlay
def test_clients_come_by_the_ingress_controller_and_not_to_the_private_port(name: str) -> None:
    for rule in _policies(name, "gateway", "ingress"):
        [peer] = rule["from"]
        [namespace] = peer["namespaceSelector"]["matchLabels"].values()
        assert (namespace, rule["ports"][0]["port"]) in {("ingress-nginx", "http"), ("monitoring", "health")}
    ports = [port["targetPort"] for port in of_kind(overlay(name), "Service")["gateway"]["spec"]["ports"]]
    assert ports == ["http"]


def test_by_the_gateway_api_clients_come_to_the_same_port_and_nothing_waits_for_an_end() -> None:
    objects = over(documented("gateway-api"))
    assert not of_kind(objects, "Ingress")
    [route] = of_kind(objects, "HTTPRoute").values()
    assert route["metadata"]["namespace"] == "pinstream"
    assert route["spec"]["hostnames"] == ["pinstream.example.net"]
    [rule] = route["spec"]["rules"]
    [backend] = rule["backendRefs"]
    assert backend["port"] in {port["port"] for port in of_kind(objects, "Service")[backend["name"]]["spec"]["ports"]}
    assert rule["timeouts"] == {"request": "0s"}
    for name in ("gateway-clients", "acme-solver"):
        [let_in] = of_kind(objects, "NetworkPolicy")[name]["spec"]["ingress"]
        assert [list(peer["namespaceSelector"]["matchLabels"].values()) for peer in let_in["from"]] == [
            ["envoy-gateway-system"]
        ]


def test_who_issues_the_ingress_its_certificate_reaches_the_pod_that_answers_for_it() -> None:
    """cert-manager has HTTP-01 answered by a pod of its own in this namespace, which the ingress controller asks."""
    objects = overlay("production")
    [ingress] = of_kind(objects, "Ingress").values()
    assert "cert-manager.io/cluster-issuer" in ingress["metadata"]["annotations"]
    [solver] = [
        policy["spec"]
        for policy in of_kind(objects, "NetworkPolicy").values()
        if policy["spec"]["podSelector"] == {"matchLabels": {"acme.cert-manager.io/http01-solver": "true"}}
    ]
    assert solver["policyTypes"] == ["Ingress"]
    [rule] = solver["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8089}]
    assert rule["from"] == of_kind(objects, "NetworkPolicy")["gateway-clients"]["spec"]["ingress"][0]["from"]


def test_sockets_outlive_the_ingress_controllers_patience() -> None:
    [ingress] = of_kind(overlay("production"), "Ingress").values()
    prefix = "nginx.ingress.kubernetes.io"
    notes = ingress["metadata"]["annotations"]
    assert {notes[f"{prefix}/proxy-{way}-timeout"] for way in ("read", "send")} == {"3600"}
    assert notes[f"{prefix}/proxy-buffering"] == "off"
    assert notes[f"{prefix}/ssl-redirect"] == "true"
    assert ingress["spec"]["tls"][0]["hosts"] == [rule["host"] for rule in ingress["spec"]["rules"]]


def test_the_local_site_is_the_stand_in_and_is_reached() -> None:
    [port] = images()["stand-in"].ports
    [container] = pod(workloads(overlay("local"))["stand-in"])["containers"]
    assert [entry["containerPort"] for entry in container["ports"]] == [port]
    for service in ("gateway", "crawler", "transformer"):
        assert environ(overlay("local"), service)["SITE_URL"] == f"http://stand-in:{port}"
    for service in ("crawler", "transformer"):
        assert environ(overlay("local"), service)["MEDIA_HOSTS"] == f"stand-in:{port}"
        [rule] = [
            rule
            for rule in _policies("local", service, "egress")
            if rule["to"] == [{"podSelector": {"matchLabels": {NAMED: "stand-in"}}}]
        ]
        assert rule["ports"] == [{"protocol": "TCP", "port": port}]
