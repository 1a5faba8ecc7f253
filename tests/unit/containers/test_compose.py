"""docker-compose.yml, held against the settings, the images and the suite's own broker."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import yaml

from libs.common import broker_keys, permissions
from libs.common.settings import Settings, from_environment
from libs.common.streams import StreamSettings
from services.crawler.settings import CrawlerSettings
from tests.conftest import NATS_IMAGE
from tests.unit.containers.dockerfile import ROOT, images
from tests.unit.containers.dockerfile import SETTINGS as SERVICE_SETTINGS

# of Docker's default profile, deploy/seccomp/README.md says of which release
DEFAULT_PROFILE_SHA256 = "e5e91f884647e7332b3f89280777752f563df4f1372a186f14ddb7bf2f55cf61"
SETTINGS: dict[str, type[Settings]] = {**SERVICE_SETTINGS, "streams": StreamSettings}
KEPT = {broker_keys.SERVER, permissions.SYSTEM, *permissions.users()}  # a volume of keys each
PROFILE = "deploy/seccomp/chromium.json"
IMAGES = images()


def composed(environ: dict[str, str]) -> dict[str, Any]:
    """The services, with the variables of `environ` filled in."""

    def value(match: re.Match[str]) -> str:
        name, empty_too, default = match.groups()
        given = environ.get(name)
        return default if given is None or (empty_too and not given) else given

    text = (ROOT / "docker-compose.yml").read_text()
    services: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{(\w+)(:?)-([^}]*)\}", value, text))["services"]
    return services


def profile(name: str) -> set[str]:
    """The services that are run with that profile alone."""
    return {service for service, container in ALL.items() if name in container.get("profiles", [])}


ALL = composed({})
TELEMETRY = profile("telemetry")
SERVICES = {name: container for name, container in ALL.items() if name not in TELEMETRY}
every_container = pytest.mark.parametrize("name", ALL)
every_service = pytest.mark.parametrize("service", SETTINGS)


def without_key(environ: dict[str, str]) -> dict[str, str]:
    """The variables but for one that names a file which is in the container alone."""
    return {name: value for name, value in environ.items() if name != "NATS_NKEY_FILE"}


def test_all_services_and_what_they_need_are_there() -> None:
    assert SERVICES.keys() == {"keys", "nats", "stand-in", *SETTINGS}
    assert SERVICES["crawler"]["scale"] == 2


@every_container
def test_a_container_has_no_rights_and_bounds(name: str) -> None:
    container = ALL[name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in container["security_opt"]
    assert "privileged" not in container
    assert container["mem_limit"] and container["pids_limit"]
    if name != "nats":
        assert any(mount.startswith("/tmp:") for mount in container["tmpfs"])


@every_service
def test_the_variables_of_a_container_are_settings_of_its_service(service: str) -> None:
    environ = SERVICES[service]["environment"]
    assert environ.keys() <= {field.name.upper() for field in msgspec.structs.fields(SETTINGS[service])}
    from_environment(SETTINGS[service], without_key(environ))


@pytest.mark.parametrize("name", SERVICES.keys() - {"nats"})
def test_a_container_is_of_an_image_that_is_built_here(name: str) -> None:
    target = SERVICES[name]["build"]["target"]
    assert target in IMAGES
    assert SERVICES[name]["image"] == f"pinstream/{name}"  # no two of one name are built at once
    assert target == ("dedup" if name in ("keys", "streams") else name)
    reaped = SERVICES[name].get("init") or IMAGES[target].entrypoint[0] == "tini"
    assert reaped or name in ("keys", "streams")  # that ends by itself


@pytest.mark.parametrize("service", SETTINGS.keys() - {"streams"})
def test_a_container_is_given_the_time_that_its_service_takes_to_stop(service: str) -> None:
    settings = SETTINGS[service]()
    needed_s = settings.drain_timeout_s + getattr(settings, "drain_notice_s", 0)
    assert int(SERVICES[service]["stop_grace_period"].removesuffix("s")) > needed_s + 10


def test_the_web_page_is_published_on_this_machine_alone_unless_told_otherwise() -> None:
    [port] = IMAGES["gateway"].ports
    assert SERVICES["gateway"]["ports"] == [f"127.0.0.1:8080:{port}"]
    assert composed({"PUBLISH": "9000"})["gateway"]["ports"] == [f"9000:{port}"]
    assert not any("ports" in container for name, container in SERVICES.items() if name != "gateway")


def test_the_site_is_the_stand_in_unless_told_otherwise() -> None:
    [port] = IMAGES["stand-in"].ports
    for service in ("gateway", "crawler", "transformer"):
        assert SERVICES[service]["environment"]["SITE_URL"] == f"http://stand-in:{port}"
    for service in ("crawler", "transformer"):
        assert f"stand-in:{port}" in SERVICES[service]["environment"]["MEDIA_HOSTS"].split(",")


def test_an_empty_site_url_means_the_real_site_and_its_hosts() -> None:
    containers = composed({"SITE_URL": ""})
    crawler = from_environment(CrawlerSettings, without_key(containers["crawler"]["environment"]))
    assert urlsplit(crawler.site_url).hostname == "www.pinterest.com"
    assert set(CrawlerSettings().media_hosts) <= set(crawler.media_hosts)


def test_the_broker_is_the_one_that_the_suite_knows_and_keeps_its_streams() -> None:
    assert SERVICES["nats"]["image"] == NATS_IMAGE
    assert SERVICES["nats"]["volumes"][0] == "jetstream:/data"
    assert "--store_dir=/data" in SERVICES["nats"]["command"]
    for service in SETTINGS:
        assert SERVICES[service]["environment"]["NATS_URL"] == "nats://nats:4222"


def test_what_has_no_business_outside_has_no_way_there() -> None:
    text = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert text["networks"]["broker"] == {"internal": True}
    outside = {name for name, container in SERVICES.items() if "outside" in container["networks"]}
    assert outside == {"gateway", "crawler", "transformer", "stand-in"}


def test_telemetry_has_what_it_shows_and_is_for_this_machine_alone() -> None:
    assert {"collector", "prometheus", "grafana", "jaeger"} == TELEMETRY
    for name in TELEMETRY:
        assert re.fullmatch(r"[a-z/-]+:v?[0-9.]+", ALL[name]["image"]), "a version is pinned"
        assert all(port.startswith("127.0.0.1:") for port in ALL[name].get("ports", []))
        for mount in ALL[name].get("volumes", []):
            here = mount.split(":")[0]
            assert not here.startswith("./") or ((ROOT / here).exists() and mount.endswith(":ro"))
        assert "outside" not in ALL[name]["networks"]
    text = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    named = {mount.split(":")[0] for one in ALL.values() for mount in one.get("volumes", []) if mount[0] not in "./"}
    assert named == text["volumes"].keys()


def test_prometheus_reads_every_service_where_it_tells_its_metrics() -> None:
    told = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert [Path(rules).name for rules in told["rule_files"]] == ["alerts.yml"]
    found = {}
    for job in told["scrape_configs"]:
        for source in job.get("dns_sd_configs", []):
            assert source["names"] == [job["job_name"]]
            assert set(SERVICES[job["job_name"]]["networks"]) & set(ALL["prometheus"]["networks"]) == {"broker"}
            found[job["job_name"]] = str(source["port"])
    assert found == {name: IMAGES[name].environ["HEALTH_PORT"] for name in SERVICE_SETTINGS}


def test_the_collector_keeps_what_failed_and_what_was_slow_and_is_where_it_is_looked_for() -> None:
    told = yaml.safe_load((ROOT / "deploy/otel/collector.yaml").read_text())
    [pipeline] = told["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) == told[kind].keys()
    policies = {policy["type"]: policy[policy["type"]] for policy in told["processors"]["tail_sampling"]["policies"]}
    assert policies["status_code"] == {"status_codes": ["ERROR"]}
    assert policies["latency"]["threshold_ms"] < 1000 * int(
        told["processors"]["tail_sampling"]["decision_wait"].removesuffix("s")
    )
    assert set(re.findall(r"\$\{env:(\w+)\}", str(policies))) == ALL["collector"]["environment"].keys()
    port = told["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    told_to = {SERVICES[service]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] for service in SERVICE_SETTINGS}
    assert told_to == {f"http://collector:{port}"}
    for service in SERVICE_SETTINGS:
        assert set(SERVICES[service]["networks"]) & set(ALL["collector"]["networks"]) == {"broker"}
    sources = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/sources.yaml").read_text())
    assert {urlsplit(source["url"]).hostname for source in sources["datasources"]} == {"prometheus", "jaeger"}


def test_the_browser_alone_may_make_namespaces() -> None:
    given = {name for name, container in SERVICES.items() if f"seccomp:{PROFILE}" in container["security_opt"]}
    assert given == {"crawler"}
    assert SERVICES["crawler"]["mem_limit"] == "2g"


def test_the_seccomp_profile_is_dockers_default_and_one_rule() -> None:
    default = (ROOT / PROFILE).with_name("default.json").read_bytes()
    assert hashlib.sha256(default).hexdigest() == DEFAULT_PROFILE_SHA256
    assert DEFAULT_PROFILE_SHA256 in (ROOT / "deploy/seccomp/README.md").read_text()
    made = subprocess.run([ROOT / "deploy/seccomp/make"], input=default, capture_output=True, check=True).stdout
    assert (ROOT / PROFILE).read_bytes() == made
    ours, given = json.loads(made), json.loads(default)
    assert ours["syscalls"].pop() == {"names": ["chroot", "clone", "setns", "unshare"], "action": "SCMP_ACT_ALLOW"}
    assert ours["defaultAction"] == given["defaultAction"] == "SCMP_ACT_ERRNO"
    always = [rule for rule in given["syscalls"] if not rule["includes"] and not rule["excludes"]]
    assert all(
        any(rule["names"] == other["names"] and rule["action"] == other["action"] for other in ours["syscalls"])
        for rule in always
    )


def test_a_runtime_that_reads_no_conditions_allows_no_more() -> None:
    """containerd takes a profile as the OCI runtime specification has it, and passes over what Docker adds to that."""
    profile = json.loads((ROOT / PROFILE).read_text())
    assert profile.keys() == {"defaultAction", "syscalls"}
    assert {key for rule in profile["syscalls"] for key in rule} == {"names", "action", "args", "errnoRet"}
    allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    default = json.loads((ROOT / PROFILE).with_name("default.json").read_text())
    privileged = {name for rule in default["syscalls"] if "caps" in rule["includes"] for name in rule["names"]}
    others = {name for rule in default["syscalls"] if "caps" not in rule["includes"] for name in rule["names"]}
    assert {"mount", "bpf", "fsopen", "perf_event_open", "init_module"} <= privileged - others
    assert not allowed & (privileged - others - {"chroot", "setns", "unshare"})
    assert {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38} in profile["syscalls"]  # glibc asks clone


def test_each_service_has_its_own_key_at_the_broker_and_sees_no_other() -> None:
    made = dict(mount.split(":") for mount in SERVICES["keys"]["volumes"])
    assert set(made.values()) == {
        f"/keys/{name}" for name in (broker_keys.SERVER, permissions.SYSTEM, *permissions.users())
    }
    for service in SETTINGS:
        container = SERVICES[service]
        assert container["volumes"] == [f"key-{service}:/run/nats:ro"]
        assert made[f"key-{service}"] == f"/keys/{service}"
        assert container["environment"]["NATS_NKEY_FILE"] == f"/run/nats/{service}.nk"
    seen = [mount for container in SERVICES.values() for mount in container.get("volumes", []) if "key-server" in mount]
    assert seen == ["key-server:/keys/server", "key-server:/etc/nats/keys:ro"]
    assert "--config=/etc/nats/server.conf" in SERVICES["nats"]["command"]
    assert SERVICES["nats"]["depends_on"]["keys"]["condition"] == "service_completed_successfully"


def test_the_places_of_keys_in_the_image_are_the_jobs_users() -> None:
    text = (ROOT / "Dockerfile").read_text()
    found = re.search(r"for user in ([a-z ]+); do", text)
    assert found is not None
    assert set(found[1].split()) == KEPT
