"""The Dockerfile, held against the code that its images run."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
from importlib import import_module

import msgspec
import pytest

from libs.common.settings import from_environment
from services.gateway.settings import GatewaySettings
from tests.unit.containers.dockerfile import ROOT, SETTINGS, Image, base, images

TARGETS = [*SETTINGS, "stand-in"]
OF_THE_SYSTEM = {"PATH", "HOME", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
IMAGES = images()

every_service = pytest.mark.parametrize("service", SETTINGS)
every_target = pytest.mark.parametrize("target", TARGETS)


def test_all_stand_on_the_slim_python_of_debian_bookworm() -> None:
    assert base() == "python:3.13-slim-bookworm"


@every_target
def test_an_image_runs_as_a_user_without_rights_and_starts_no_shell(target: str) -> None:
    image = IMAGES[target]
    assert image.user == "10001:10001"
    assert image.health[:3] == ["python", "-m", "libs.common.probe"]
    command = image.entrypoint[2:] if image.entrypoint[:2] == ["tini", "--"] else image.entrypoint
    module = f"services.{target}" if target in SETTINGS else "tests.fake_pinterest"
    assert command[:3] == ["python", "-m", module]


@every_service
def test_an_images_variables_are_settings_of_its_service(service: str) -> None:
    environ = {name: value for name, value in IMAGES[service].environ.items() if name not in OF_THE_SYSTEM}
    assert environ.keys() <= {field.name.upper() for field in msgspec.structs.fields(SETTINGS[service])}
    environ.pop("BROWSER_EXECUTABLE", None)  # it is in the image alone
    from_environment(SETTINGS[service], environ)


@every_service
def test_a_services_health_is_asked_for_where_it_listens(service: str) -> None:
    image = IMAGES[service]
    assert image.health[3:] == ["HEALTH_PORT"]  # which has no TLS, whatever the clients' port has
    assert image.environ["HEALTH_HOST"] == "0.0.0.0"
    assert image.environ["HEALTH_PORT"] == str(import_module(f"services.{service}.__main__").HEALTH_PORT)
    if service == "gateway":
        assert image.environ["GATEWAY_HOST"] == "0.0.0.0"
        assert image.ports == [GatewaySettings().gateway_port]
    else:
        assert image.ports == [int(image.environ["HEALTH_PORT"])]


def test_the_stand_in_listens_where_its_health_is_asked_for() -> None:
    image = IMAGES["stand-in"]
    [port] = image.ports
    assert f"--port={port}" in image.entrypoint
    assert image.health[3:] == [str(port), "/_stand_in/healthz"]


def test_the_crawlers_image_demands_the_sandbox() -> None:
    assert IMAGES["crawler"].environ["BROWSER_SANDBOX"] == "required"
    assert IMAGES["crawler"].environ["BROWSER_EXECUTABLE"] == "/usr/lib/chromium/chromium"  # not the script on PATH


@every_target
def test_an_image_has_its_own_code_and_the_libraries_that_its_lock_names(target: str) -> None:
    assert [stage for _, stage in IMAGES[target].taken] == [f"{target}-build"] * 2
    taken = {path for paths, _ in IMAGES[f"{target}-build"].taken for path in paths}
    own = {"services/__init__.py", f"services/{target}"} if target in SETTINGS else {"tests"}
    assert taken == {f"deploy/locks/{target}.lock", "libs", *own}


@every_target
def test_what_is_copied_exists_and_is_not_ignored(target: str) -> None:
    rules = (ROOT / ".dockerignore").read_text().split("\n")
    kept = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    for paths, _ in IMAGES[f"{target}-build"].taken:
        for path in paths:
            assert (ROOT / path).exists()
            assert any(
                fnmatch.fnmatch(path, rule) or path.startswith(rule + "/") or rule.startswith(path + "/")
                for rule in kept
            ), path


def pinned(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


@every_target
def test_a_lock_has_the_versions_that_are_tested_with_hashes_and_no_addresses(target: str) -> None:
    lock = f"deploy/locks/{target}.lock"
    assert pinned(lock).items() <= pinned("requirements.lock").items()
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert all("--hash=sha256:" in block for block in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE) if block)


def test_a_service_that_is_no_gateway_starts_without_the_library_for_websockets() -> None:
    hidden = "import sys; sys.modules['websockets'] = None; import asyncio, libs.common.health as h; "
    served = (
        "from libs.common.settings import Settings\n"
        "async def main():\n"
        "    async with h.health_server(Settings(health_port=0), 0, {}): pass\n"
        "asyncio.run(main())\n"
        "print('served')"
    )
    command = [sys.executable, "-c", hidden + served]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("served\n")


def test_an_images_parents_are_read() -> None:
    assert Image().user == "root"
    assert IMAGES["build"].user == "root"
