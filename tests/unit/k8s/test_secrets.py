"""The Secrets that scripts/k8s-secrets makes, held against those that the pods mount."""

from __future__ import annotations

import subprocess
from base64 import b64decode
from pathlib import Path

import yaml

from tests.unit.containers.dockerfile import ROOT
from tests.unit.k8s.rendering import SERVICES, environ, overlay, pod, workloads


def test_every_pod_finds_its_own_key_and_no_other() -> None:
    done = subprocess.run([ROOT / "scripts" / "k8s-secrets", "--print"], capture_output=True, text=True, check=True)
    made = {found["metadata"]["name"]: found for found in yaml.safe_load_all(done.stdout) if found}
    assert {found["metadata"]["namespace"] for found in made.values()} == {"pinstream"}
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
