"""The Secrets that scripts/k8s-secrets makes, held against those that the pods mount."""

from __future__ import annotations

import os
import subprocess
from base64 import b64decode
from pathlib import Path

import yaml

from libs.common import permissions
from scripts.manifests import Object
from tests.unit.containers.dockerfile import ROOT
from tests.unit.k8s.rendering import SERVICES, documented, environ, of_kind, over, overlay, pod, workloads

SCRIPT = ROOT / "scripts" / "k8s-secrets"


def secrets(*arguments: str) -> dict[str, Object]:
    """What the script prints, by name."""
    done = subprocess.run([SCRIPT, *arguments, "--print"], capture_output=True, text=True, check=True)
    return {found["metadata"]["name"]: found for found in yaml.safe_load_all(done.stdout) if found}


def test_the_secrets_are_of_the_namespace_that_is_named() -> None:
    made = secrets("--namespace", "cell-b")
    assert {found["metadata"]["namespace"] for found in made.values()} == {"cell-b"}


def test_the_namespace_is_made_with_its_labels_and_the_secrets_in_it(tmp_path: Path) -> None:
    kubectl = tmp_path / "kubectl"  # keeps what it is given; no Secret is there
    kubectl.write_text(f'#!/bin/sh\n[ "$3" = get ] && exit 1\necho ---; cat >>{tmp_path}/"$1"\n')
    kubectl.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([SCRIPT, "--namespace", "cell-b"], env=environ, capture_output=True, check=True)
    expected = of_kind(over(documented("transformers")), "Namespace")["cell-b"]["metadata"]
    [namespace] = yaml.safe_load_all((tmp_path / "apply").read_text())
    assert namespace["kind"] == "Namespace" and namespace["metadata"]["name"] == "cell-b"
    assert namespace["metadata"]["labels"].items() <= expected["labels"].items()
    created = [found for found in yaml.safe_load_all((tmp_path / "create").read_text()) if found]
    assert created and {found["metadata"]["namespace"] for found in created} == {"cell-b"}


def test_every_pod_finds_its_own_key_and_no_other() -> None:
    made = secrets()
    assert {found["metadata"]["namespace"] for found in made.values()} == {"pinstream"}
    known = {*permissions.users(), permissions.SYSTEM}
    assert made.keys() == {"nats-server-keys", *(f"nats-{user}" for user in known)}  # no seed is thrown away
    servers = {name: b64decode(value).decode() for name, value in made["nats-server-keys"]["data"].items()}
    for user in ("streams", *SERVICES):
        spec = pod(workloads(overlay("production"))[user])
        [name] = [volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume]
        file = Path(environ(overlay("production"), user)["NATS_NKEY_FILE"])
        assert b64decode(made[name]["data"][file.name]).startswith(b"SU")  # a user's seed
        assert f"{user}_key" in servers["keys.conf"]
        assert [other for other in made if other in str(spec)] == [name]
    broker = workloads(overlay("production"))["nats"]
    for number in range(broker["spec"]["replicas"]):
        host = f"{broker['metadata']['name']}-{number}.{broker['spec']['serviceName']}:6222"
        assert host in servers["routes.conf"]
    [config] = [volume["projected"] for volume in pod(broker)["volumes"] if "projected" in volume]
    [taken] = [source["secret"] for source in config["sources"] if "secret" in source]
    assert taken["name"] == "nats-server-keys"
    assert {item["key"] for item in taken["items"]} == servers.keys()
