"""docker-compose.cluster.yml over docker-compose.yml: three brokers, held against the code and the broker's files."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from libs.common.settings import from_environment
from libs.common.streams import StreamSettings
from tests.unit.containers.dockerfile import ROOT
from tests.unit.containers.test_compose import SERVICES, SETTINGS, composed, without_key

FILES = ("docker-compose.yml", "docker-compose.cluster.yml")
FILE = yaml.safe_load((ROOT / FILES[1]).read_text())
OVER: dict[str, Any] = FILE["services"]
SERVERS = ("nats", "nats-2", "nats-3")


def server(name: str) -> dict[str, Any]:
    """One of the three; compose lays the first over the one of docker-compose.yml."""
    volumes = {
        volume.split(":")[1]: volume
        for one in (SERVICES.get(name, {}), OVER[name])
        for volume in one.get("volumes", [])
    }
    return {**SERVICES.get(name, {}), **OVER[name], "volumes": volumes}


def test_three_servers_are_alike_but_for_their_names_and_volumes() -> None:
    for name in SERVERS:
        found = server(name)
        assert found.pop("environment") == {"NATS_SERVER_NAME": name, "NATS_CLUSTER_LISTEN": "0.0.0.0:6222"}
        assert found["volumes"].pop("/data").split(":")[0] in FILE["volumes"]  # not that of a broker alone
        expected = {**server("nats"), "volumes": {**server("nats")["volumes"]}}
        expected.pop("environment")
        expected["volumes"].pop("/data")
        assert found == expected
    own = {server(name)["volumes"]["/data"] for name in SERVERS}
    assert len(own) == len(FILE["volumes"]) == 3


def test_a_server_finds_its_configuration_and_what_that_includes() -> None:
    for name in SERVERS:
        assert "--config=/etc/nats/cluster.conf" in server(name)["command"]
        assert {"accounts.conf", "server.conf", "cluster.conf", "keys"} == {
            place.removeprefix("/etc/nats/") for place in server(name)["volumes"] if place != "/data"
        }
        for place, volume in server(name)["volumes"].items():
            if place.endswith(".conf"):
                assert (ROOT / volume.split(":")[0]).is_file()


def test_everybody_knows_all_three_and_streams_are_kept_three_fold() -> None:
    routes = OVER["keys"]["entrypoint"]
    assert routes[:-2] == SERVICES["keys"]["entrypoint"]
    assert routes[-2:] == ["--routes", ",".join(f"{name}:6222" for name in SERVERS)]
    assert OVER.keys() == {"keys", *SERVERS, *SETTINGS}
    for service, kind in SETTINGS.items():
        environ = {**composed({})[service]["environment"], **OVER[service]["environment"]}
        settings = from_environment(kind, without_key(environ))
        assert [urlsplit(url).hostname for url in settings.nats_url.split(",")] == list(SERVERS)
        if isinstance(settings, StreamSettings):
            assert settings.stream_replicas == len(SERVERS)
    waited_for = {**SERVICES["streams"]["depends_on"], **OVER["streams"]["depends_on"]}
    assert waited_for == {name: {"condition": "service_healthy"} for name in SERVERS}


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="the older compose is not here")
def test_the_older_compose_takes_both_files() -> None:
    files = [f"--file={file}" for file in FILES]
    done = subprocess.run(["docker-compose", *files, "config"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert {volume.split(":")[0] for name in SERVERS for volume in services[name]["volumes"] if ":/data" in volume} == {
        *FILE["volumes"]
    }
    assert services["gateway"]["environment"]["NATS_URL"] == OVER["gateway"]["environment"]["NATS_URL"]
