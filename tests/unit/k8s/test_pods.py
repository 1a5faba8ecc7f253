"""Every pod, held against the pod security standard `restricted`, against what was measured, and against the code."""

from __future__ import annotations

import json
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libs.common.health import GRACE_S
from libs.common.metrics import SHUTDOWN_MS
from libs.common.settings import Settings, from_environment
from libs.common.streams import StreamSettings, streams
from scripts.manifests import Object
from services.gateway.access_settings import check_exposure
from services.gateway.settings import GatewaySettings
from tests.conftest import NATS_IMAGE
from tests.unit.containers.dockerfile import ROOT, images
from tests.unit.containers.dockerfile import SETTINGS as SERVICE_SETTINGS
from tests.unit.k8s.rendering import (
    OVERLAYS,
    SERVICES,
    containers,
    cores,
    environ,
    megabytes,
    of_kind,
    over,
    overlay,
    pod,
    seccomp,
    workloads,
)

SETTINGS: dict[str, type[Settings]] = {**SERVICE_SETTINGS, "streams": StreamSettings}
IMAGES = images()
MEASURED = json.loads((ROOT / "benchmarks/results/footprint.json").read_text())
LOCAL_PROFILE = {"type": "Localhost", "localhostProfile": "pinstream/chromium.json"}
KIND_CORES = 0.95  # that kind's own pods ask for: API server, controllers, scheduler, etcd, DNS, network
STOPPING_S = 10  # of a browser, of children, of what Python does at its end

EVERY = [(name, workload) for name in OVERLAYS for workload in workloads(overlay(name))]
every_workload = pytest.mark.parametrize(("name", "workload"), EVERY)
every_overlay = pytest.mark.parametrize("name", OVERLAYS)


@every_workload
def test_a_pod_meets_the_standard_restricted(name: str, workload: str) -> None:
    spec = pod(workloads(overlay(name))[workload])
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False  # a Service would set GATEWAY_PORT, which is a setting
    security = spec["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"] == 10001
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    allowed = {"emptyDir", "configMap", "secret", "projected"}
    assert all(volume.keys() - {"name"} <= allowed for volume in spec.get("volumes", []))
    for container in containers(workloads(overlay(name))[workload]):
        assert not any("hostPort" in port for port in container.get("ports", []))
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["runAsNonRoot"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert "privileged" not in own and "procMount" not in own
        assert own.get("seccompProfile", {}) == (LOCAL_PROFILE if workload == "crawler" else {})


@every_overlay
def test_the_namespace_demands_it(name: str) -> None:
    labels = of_kind(overlay(name), "Namespace")["pinstream"]["metadata"]["labels"]
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {"restricted"}


@every_overlay
def test_no_account_has_a_token_or_rights(name: str) -> None:
    assert not of_kind(overlay(name), "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    for account in of_kind(overlay(name), "ServiceAccount").values():
        assert account["automountServiceAccountToken"] is False


def test_the_crawlers_profile_is_put_where_the_crawler_asks_for_it() -> None:
    daemon = workloads(seccomp())["seccomp"]
    [place] = [volume["hostPath"]["path"] for volume in pod(daemon)["volumes"] if "hostPath" in volume]
    [config] = [volume["configMap"]["name"] for volume in pod(daemon)["volumes"] if "configMap" in volume]
    assert f"{place}/chromium.json" == f"/var/lib/kubelet/seccomp/{LOCAL_PROFILE['localhostProfile']}"
    given = of_kind(seccomp(), "ConfigMap")[config]["data"]["chromium.json"]
    assert given == (ROOT / "deploy/seccomp/chromium.json").read_text()
    for container in containers(daemon):
        writes = any(not mount.get("readOnly") for mount in container["volumeMounts"])
        assert writes == (container["name"] == "install")
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_crawlers_profile_is_installed_whole_and_kept(tmp_path: Path) -> None:
    profile, place = tmp_path / "profile", tmp_path / "seccomp"
    profile.mkdir()
    place.mkdir()
    (profile / "chromium.json").write_text("{}")
    init, main = containers(workloads(seccomp())["seccomp"])

    def run(command: list[str]) -> int | str | None:
        program = command[-1].replace('"/profile', f'"{profile}').replace('"/seccomp', f'"{place}')
        try:
            exec(compile(program, "command", "exec"), {})
        except SystemExit as end:
            return end.code
        return 0

    ready = main["readinessProbe"]["exec"]["command"]
    assert run(init["command"]) == 0
    assert [file.name for file in place.iterdir()] == ["chromium.json"]
    assert (place / "chromium.json").stat().st_mode & 0o777 == 0o644
    assert run(ready) == 0
    (place / "chromium.json").write_text("[]")
    assert run(ready) == 1
    (place / "chromium.json").unlink()
    with pytest.raises(FileNotFoundError):
        run(ready)


@pytest.mark.parametrize("name", ["seccomp", "overlays/production-seccomp"])
def test_a_node_without_the_profile_is_told_within_a_minute(name: str) -> None:
    *_, main = containers(workloads(seccomp(name))["seccomp"])
    probe = main["readinessProbe"]
    assert probe["periodSeconds"] * probe.get("failureThreshold", 3) <= 60  # 3 is Kubernetes' own


@every_workload
def test_an_image_is_one_that_is_built_here_of_a_version_that_is_named(name: str, workload: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    [container] = containers(workloads(overlay(name))[workload])
    if workload == "nats":
        assert container["image"] == NATS_IMAGE
        return
    image, _, tag = container["image"].partition(":")
    target = "dedup" if workload == "streams" else workload
    assert target in IMAGES
    if name == "local":
        assert (image, tag) == (f"pinstream/{target}", version)
    else:  # as .github/workflows/release.yml names them
        assert (image, tag) == (f"ghcr.io/example/pinstream-{target}", f"v{version}")
    assert container["imagePullPolicy"] == ("Always" if name != "local" else container["imagePullPolicy"])


@pytest.mark.parametrize(
    ("name", "image", "policy"),
    [
        ("seccomp", "pinstream/dedup:{}", "IfNotPresent"),  # that was loaded into the nodes
        ("overlays/production-seccomp", "ghcr.io/example/pinstream-dedup:v{}", "Always"),
    ],
)
def test_the_crawlers_profile_comes_by_an_image_that_is_there(name: str, image: str, policy: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for container in containers(workloads(seccomp(name))["seccomp"]):
        assert (container["image"], container["imagePullPolicy"]) == (image.format(version), policy)


def test_telemetry_has_traces_sent_and_no_metrics() -> None:
    with_it = over("resources: [../production]\ncomponents: [../../components/telemetry]\n")
    for service in SERVICES:
        given = environ(with_it, service)
        assert given["OTEL_EXPORTER_OTLP_ENDPOINT"].startswith("http://")
        assert given["OTEL_METRICS_EXPORTER"] == "none"  # deploy/otel/collector.yaml takes none


def _environ(name: str, workload: str, folder: Path) -> dict[str, str]:
    """As the process has it: the image's, then the manifest's; files of Secrets are there."""
    image = IMAGES["dedup" if workload == "streams" else workload]
    given = {**image.environ, **environ(overlay(name), workload)}
    for variable in [variable for variable in given if variable.endswith("_FILE")]:
        file = folder / variable
        file.touch()
        given[variable] = str(file)
    return {variable: value for variable, value in given.items() if variable != "BROWSER_EXECUTABLE"}


@every_overlay
@pytest.mark.parametrize("workload", SETTINGS)
def test_the_variables_of_a_pod_are_settings_of_its_service(name: str, workload: str, tmp_path: Path) -> None:
    fields = {field.name.upper() for field in msgspec.structs.fields(SETTINGS[workload])}
    given = environ(overlay(name), workload)
    assert given.keys() <= fields
    settings = from_environment(SETTINGS[workload], _environ(name, workload, tmp_path))
    if isinstance(settings, GatewaySettings):
        check_exposure(settings)
    [container] = containers(workloads(overlay(name))[workload])
    for variable, value in given.items():
        if variable.endswith("_FILE"):
            mounts = [mount for mount in container["volumeMounts"] if Path(value).parent == Path(mount["mountPath"])]
            assert mounts, variable


@every_overlay
@pytest.mark.parametrize("workload", SERVICES)
def test_the_probes_ask_where_the_service_answers(name: str, workload: str, tmp_path: Path) -> None:
    [container] = containers(workloads(overlay(name))[workload])
    settings = from_environment(SETTINGS[workload], _environ(name, workload, tmp_path))
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["health"] == settings.health_port
    assert settings.health_host == "0.0.0.0"
    if isinstance(settings, GatewaySettings):
        assert ports["http"] == settings.gateway_port
        assert settings.gateway_host == "0.0.0.0"
    assert ports["health"] == import_module(f"services.{workload}.__main__").HEALTH_PORT
    asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {get["port"] for get in asked.values()} == {"health"}
    assert [asked[kind]["path"] for kind in asked] == ["/healthz", "/healthz", "/readyz"]
    notes = workloads(overlay(name))[workload]["spec"]["template"]["metadata"]["annotations"]
    assert notes["prometheus.io/port"] == str(ports["health"])
    assert notes["prometheus.io/path"] == "/metrics"


@every_overlay
@pytest.mark.parametrize("workload", SERVICES)
def test_a_pod_is_given_the_time_that_its_service_takes_to_stop(name: str, workload: str, tmp_path: Path) -> None:
    settings = from_environment(SETTINGS[workload], _environ(name, workload, tmp_path))
    [container] = containers(workloads(overlay(name))[workload])
    sleep_s = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    needed_s = sleep_s + settings.drain_timeout_s + getattr(settings, "drain_notice_s", 0)
    needed_s += GRACE_S + SHUTDOWN_MS / 1000 + STOPPING_S
    assert pod(workloads(overlay(name))[workload])["terminationGracePeriodSeconds"] > needed_s
    if workload == "gateway":
        probe = container["readinessProbe"]
        assert sleep_s >= probe["periodSeconds"] * probe["failureThreshold"]


@every_overlay
def test_the_broker_is_given_the_time_of_its_lame_duck(name: str) -> None:
    broker = pod(workloads(overlay(name))["nats"])
    assert broker["terminationGracePeriodSeconds"] > 120 + 10  # the server's defaults
    [container] = broker["containers"]
    pid = container["args"][container["args"].index("--pid") + 1]
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["nats-server", f"--signal=ldm={pid}"]
    assert f"nats-server --signal reload={pid}" in (ROOT / "docs" / "kubernetes.md").read_text()


@every_workload
def test_what_a_container_asks_for_and_may_take_is_named(name: str, workload: str) -> None:
    for container in containers(workloads(overlay(name))[workload]):
        resources = container["resources"]
        for which in ("requests", "limits"):
            assert resources[which].keys() == {"cpu", "memory", "ephemeral-storage"}
        for resource, read in (("memory", megabytes), ("ephemeral-storage", megabytes), ("cpu", cores)):
            assert read(resources["requests"][resource]) <= read(resources["limits"][resource])
    spec = pod(workloads(overlay(name))[workload])
    scratch = [volume["emptyDir"] for volume in spec.get("volumes", []) if "emptyDir" in volume]
    on_disk = sum(megabytes(volume["sizeLimit"]) for volume in scratch if volume.get("medium") != "Memory")
    assert on_disk < sum(megabytes(one["resources"]["limits"]["ephemeral-storage"]) for one in spec["containers"])


@pytest.mark.parametrize("workload", [*SERVICES, "nats"])
def test_what_production_asks_for_is_what_was_measured(workload: str) -> None:
    [container] = containers(workloads(overlay("production"))[workload])
    resources = container["resources"]
    figures: list[dict[str, Any]] = [MEASURED[pace]["services"][workload] for pace in ("usual", "full")]
    most_mb, cores_used = max(one["memory_mb"]["most"] for one in figures), max(one["cores"] for one in figures)
    assert megabytes(resources["requests"]["memory"]) >= most_mb
    assert megabytes(resources["limits"]["memory"]) >= 1.5 * most_mb
    assert cores(resources["limits"]["cpu"]) >= 1.5 * cores_used
    assert cores(resources["requests"]["cpu"]) >= 0.5 * cores_used


def test_the_local_overlay_and_one_pod_more_of_each_update_fit_two_cores() -> None:
    def asked(some: list[dict[str, Any]]) -> list[float]:
        return [cores(one["resources"]["requests"]["cpu"]) for one in some]

    pods = [pod(workload) for workload in workloads((*overlay("local"), *seccomp())).values()]
    each = [max(*asked(spec.get("initContainers", [])), sum(asked(spec["containers"])), 0.0) for spec in pods]
    assert sum(each) + max(each) <= 2 - KIND_CORES


def test_a_crawlers_browser_is_replaced_before_its_pod_is_killed_for_memory(tmp_path: Path) -> None:
    [container] = containers(workloads(overlay("production"))["crawler"])
    settings: Any = from_environment(SETTINGS["crawler"], _environ("production", "crawler", tmp_path))
    spec = pod(workloads(overlay("production"))["crawler"])
    [shared] = [volume["emptyDir"]["sizeLimit"] for volume in spec["volumes"] if volume["name"] == "shm"]
    limit_mb = megabytes(container["resources"]["limits"]["memory"])
    assert 0 < settings.browser_max_mb < limit_mb - megabytes(shared) - 200  # Python's own


def test_a_broker_has_the_disk_that_its_streams_may_take() -> None:
    broker = workloads(overlay("production"))["nats"]
    [claim] = broker["spec"]["volumeClaimTemplates"]
    most_mb = sum(stream["max_bytes"] for stream in streams(StreamSettings())) / 2**20
    assert megabytes(claim["spec"]["resources"]["requests"]["storage"]) > 2 * most_mb


@every_overlay
def test_as_many_copies_of_a_stream_as_servers(name: str) -> None:
    replicas = workloads(overlay(name))["nats"]["spec"]["replicas"]
    assert int(environ(overlay(name), "streams")["STREAM_REPLICAS"]) == replicas == (1 if name == "local" else 3)


@pytest.mark.parametrize("workload", [*SERVICES, "nats"])
def test_replicas_are_spread_and_one_at_a_time_is_taken_away(workload: str) -> None:
    objects = overlay("production")
    spec = pod(workloads(objects)[workload])
    mine = {"matchLabels": {"app.kubernetes.io/name": workload}}
    spread = {entry["topologyKey"]: entry["labelSelector"] for entry in spec["topologySpreadConstraints"]}
    assert spread == {"topology.kubernetes.io/zone": mine, "kubernetes.io/hostname": mine}
    assert spec["affinity"]["podAntiAffinity"]
    budget = of_kind(objects, "PodDisruptionBudget")[workload]["spec"]
    assert (budget["maxUnavailable"], budget["selector"]) == (1, mine)


def test_replicas_are_the_autoscalers_alone() -> None:
    scaled = of_kind(overlay("production"), "ScaledObject")
    assert scaled.keys() == set(SERVICES)
    for service in SERVICES:
        workload: Object = workloads(overlay("production"))[service]
        assert "replicas" not in workload["spec"]  # each apply would set it back
        lowest = scaled[service]["spec"]["minReplicaCount"]
        assert lowest == 0 if service == "crawler" else lowest >= 2
