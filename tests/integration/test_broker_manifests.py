"""The broker's configuration as its pods get it, by k8s/nats and by its Helm chart: does nats-server take it?"""

from __future__ import annotations

import json
import os
import re
import subprocess
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
import yaml

from libs.client.broker import find_server
from tests.authority import Authority
from tests.guarded import with_certificates
from tests.unit.containers.dockerfile import ROOT
from tests.unit.k8s.rendering import OVERLAYS, of_kind, overlay, pod, workloads

VALUES = yaml.safe_load((ROOT / "k8s" / "nats" / "helm-values.yaml").read_text())
TLS_VALUES = yaml.safe_load((ROOT / "k8s" / "nats" / "helm-values-tls.yaml").read_text())
MOUNTED = "/etc/nats-certs"  # where the chart has certificates


@pytest.fixture(scope="module")
def secrets() -> dict[str, dict[str, str]]:
    """What scripts/k8s-secrets makes, by Secret and file."""
    done = subprocess.run([ROOT / "scripts" / "k8s-secrets", "--print"], capture_output=True, text=True, check=True)
    made = [found for found in yaml.safe_load_all(done.stdout) if found]
    return {
        found["metadata"]["name"]: {name: b64decode(value).decode() for name, value in found["data"].items()}
        for found in made
    }


def mounted(sources: list[dict[str, Any]], maps: dict[str, dict[str, str]], folder: Path) -> None:
    """Writes what a projected volume has."""
    for source in sources:
        [(kind, projection)] = source.items()
        data = maps[projection["name"]]
        items = projection.get("items") or [{"key": name, "path": name} for name in data]
        assert kind in ("configMap", "secret")
        for item in items:
            file = folder / item["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(data[item["key"]])


def taken(config: Path, environ: dict[str, str]) -> str:
    """What nats-server says of a configuration that it tests without starting."""
    command = [str(find_server()), "--config", str(config), "-t"]
    done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def accepted(config: Path) -> str:
    """What it says of one without a fault."""
    return f"nats-server: configuration file {config} is valid"


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, dict[str, str]]:
    """The Secret that people make."""
    folder = Authority(tmp_path / "authority").folder
    return {"nats-tls": {file.name: file.read_text() for file in folder.iterdir()}}


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_servers_take_the_configuration_that_is_mounted(
    name: str, secrets: dict[str, dict[str, str]], certificates: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    [container] = pod(workloads(overlay(name))["nats"])["containers"]
    [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == "config"]
    _configured(name, {**secrets, **certificates}, tmp_path)
    file = Path(container["args"][container["args"].index("--config") + 1])
    assert str(file.parent) == mount["mountPath"]
    config = tmp_path / file.name
    assert accepted(config) in taken(config, _environ(container)).replace("'", "")


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_servers_keep_their_streams_on_the_volume(
    name: str, secrets: dict[str, dict[str, str]], certificates: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    [container] = pod(workloads(overlay(name))["nats"])["containers"]
    folders = {mount["mountPath"]: tmp_path / mount["name"] for mount in container["volumeMounts"]}
    for folder in folders.values():
        folder.mkdir()
    _configured(name, {**secrets, **certificates}, folders["/etc/nats"])
    said = "".join(_started(_args(container["args"], folders), _environ(container)))
    [store] = re.findall(r'Store Directory: *"(.*)"', said)
    [claim] = workloads(overlay(name))["nats"]["spec"]["volumeClaimTemplates"]
    [kept] = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == claim["metadata"]["name"]]
    assert Path(store).parent == folders[kept], said


def _configured(name: str, secrets: dict[str, dict[str, str]], folder: Path) -> None:
    """Lays into `folder` what the servers of an overlay find in their volume `config`."""
    maps = {found: one["data"] for found, one in of_kind(overlay(name), "ConfigMap").items()}
    [volume] = [volume for volume in pod(workloads(overlay(name))["nats"])["volumes"] if volume["name"] == "config"]
    mounted(volume["projected"]["sources"], {**maps, **secrets}, folder)
    with_certificates(folder, folder / "tls")


def _args(args: list[str], folders: dict[str, Path]) -> list[str]:
    """Those of a container, with other folders in the place of its own."""
    found = list(args)
    for place, folder in folders.items():
        found = [str(folder) + arg.removeprefix(place) if arg.startswith(place) else arg for arg in found]
    return found


def _environ(container: dict[str, Any]) -> dict[str, str]:
    """That of the pod nats-0."""
    found = {entry["name"]: entry.get("value", "nats-0") for entry in container["env"]}
    return {name: value.replace("$(NATS_SERVER_NAME)", "nats-0") for name, value in found.items()}


def _started(args: list[str], environ: dict[str, str]) -> list[str]:
    """What nats-server says until it is ready, at ports of its own; it is ended then."""
    ports = ["--addr", "127.0.0.1", "--port", "-1", "--http_port", "-1"]
    environ = {**os.environ, **environ, "NATS_CLUSTER_LISTEN": "127.0.0.1:-1"}
    said = []
    with subprocess.Popen(
        [str(find_server()), *args, *ports], env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        assert server.stdout is not None
        for line in server.stdout:  # it ends where the server does
            said.append(line)
            if "Server is ready" in line:
                break
        server.kill()
    return said


def test_without_the_keys_it_is_refused(secrets: dict[str, dict[str, str]], tmp_path: Path) -> None:
    for file in ("accounts.conf", "server.conf"):
        (tmp_path / file).write_text((ROOT / "deploy" / "nats" / file).read_text())
    assert "keys.conf" in taken(tmp_path / "server.conf", {})


@pytest.mark.parametrize("tls", [False, True])
def test_the_charts_values_give_what_the_servers_take(
    tls: bool, secrets: dict[str, dict[str, str]], certificates: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    """As files/config/*.yaml of the chart have it, and its `nats.formatConfig`: JSON, `<< … >>` without the quotes."""
    values = _over(VALUES, TLS_VALUES) if tls else VALUES
    config = values["config"]
    document = {
        "server_name": "<< $POD_NAME >>",
        "port": 4222,
        "http_port": config["monitor"]["port"],
        "lame_duck_grace_period": "10s",
        "lame_duck_duration": "30s",
        "cluster": {
            "port": 6222,
            "no_advertise": config["cluster"]["noAdvertise"],
            "routes": ["nats://nats-0.nats-headless:6222"],
            **config["cluster"]["merge"],
            **_certificates(config["cluster"], "cluster"),
        },
        **_certificates(config.get("nats", {}), "nats"),
        "jetstream": {
            "store_dir": config["jetstream"]["fileStore"]["dir"],
            "max_file_store": f"<< {config['jetstream']['fileStore']['maxSize']} >>",
            "max_memory_store": 0,
        },
        **config["merge"],
    }
    text = re.sub(r'".*\$include": "(.*)",?', r"include \1;", json.dumps(document, indent=2, sort_keys=True))
    file = tmp_path / "nats-config" / "nats.conf"
    file.parent.mkdir()
    text = text.replace(MOUNTED, str(tmp_path / "nats-certs"))
    file.write_text(re.sub(r'"<<\s+(.*?)\s+>>"', r"\1", text))
    for protocol in ("nats", "cluster") if tls else ():
        mounted(
            [{"secret": {"name": config[protocol]["tls"]["secretName"]}}],
            certificates,
            tmp_path / "nats-certs" / protocol,
        )
    [volume] = [patch["value"] for patch in VALUES["podTemplate"]["patch"]]
    [mount] = [patch["value"] for patch in VALUES["container"]["patch"]]
    assert volume["name"] == mount["name"]
    maps = {"nats-accounts": {"accounts.conf": (ROOT / "deploy" / "nats" / "accounts.conf").read_text()}}
    mounted(volume["projected"]["sources"], {**maps, **secrets}, tmp_path / Path(mount["mountPath"]).name)
    environ = {name: value.replace("$(POD_NAME)", "nats-0") for name, value in values["container"]["env"].items()}
    assert accepted(file) in taken(file, {"POD_NAME": "nats-0", **environ}).replace("'", "")


def _over(below: Any, above: Any) -> Any:
    """As Helm lays one file of values over another."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{name: _over(below.get(name), value) for name, value in above.items()}}


def _certificates(values: dict[str, Any], protocol: str) -> dict[str, Any]:
    """As files/config/tls.yaml of the chart, with its default folder and names."""
    if "tls" not in values:
        return {}
    files = {"cert_file": f"{MOUNTED}/{protocol}/tls.crt", "key_file": f"{MOUNTED}/{protocol}/tls.key"}
    return {"tls": {**files, **values["tls"]["merge"]}}


def test_by_chart_and_by_plain_manifests_tls_is_the_same() -> None:
    plain, config = (ROOT / "deploy" / "nats" / "cluster-tls.conf").read_text(), TLS_VALUES["config"]
    env = {
        entry["name"]: entry.get("value")
        for entry in pod(workloads(overlay("production-tls"))["nats"])["containers"][0]["env"]
    }
    assert config["nats"]["tls"]["merge"]["verify"] is (env["NATS_TLS_VERIFY"] == "true")
    assert config["cluster"]["tls"]["merge"]["verify"] is True
    assert "verify: true" in plain
    advertised = TLS_VALUES["container"]["env"]["NATS_CLUSTER_ADVERTISE"]
    assert advertised.replace("POD_NAME", "NATS_SERVER_NAME") == env["NATS_CLUSTER_ADVERTISE"]


def test_the_chart_is_asked_for_what_the_plain_manifests_have() -> None:
    plain = workloads(overlay("production"))["nats"]
    [container] = pod(plain)["containers"]
    assert container["image"] == f"nats:{VALUES['container']['image']['tag']}"
    assert VALUES["container"]["merge"]["resources"] == container["resources"]
    assert VALUES["container"]["merge"]["securityContext"] == container["securityContext"]
    assert VALUES["podTemplate"]["merge"]["spec"]["securityContext"] == pod(plain)["securityContext"]
    assert VALUES["config"]["cluster"]["replicas"] == plain["spec"]["replicas"]
    [claim] = plain["spec"]["volumeClaimTemplates"]
    size = claim["spec"]["resources"]["requests"]["storage"]
    assert VALUES["config"]["jetstream"]["fileStore"]["pvc"]["size"] == size
