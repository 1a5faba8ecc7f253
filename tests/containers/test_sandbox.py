"""Chromium's sandbox in the crawler's container: real with the profile, and demanded without it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from functools import partial

import msgspec
import pytest

from tests.containers.engine import Project, said
from tests.wait import wait_until

READY_S = 180
EX_UNAVAILABLE = 69

HARDENED = ["--rm", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges:true"]
LOOK = """
import json, pathlib
found = []
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        command = (folder / "cmdline").read_bytes().decode(errors="replace").replace("\\0", " ").split()
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        uids = (folder / "uid_map").read_text().split()
    except OSError:
        continue
    kind = next((word.removeprefix("--type=") for word in command if word.startswith("--type=")), "")
    fields = ("Uid", "NSpid", "Seccomp", "Seccomp_filters", "NoNewPrivs", "CapEff")
    found.append({"command": command, "kind": kind, "uid_map": uids, **{name: status[name].split() for name in fields}})
print(json.dumps(found))
"""


class Process(msgspec.Struct):
    """What /proc says of one."""

    command: list[str]
    kind: str
    uid_map: list[str]
    Uid: list[str]
    NSpid: list[str]
    Seccomp: list[str]
    Seccomp_filters: list[str]
    CapEff: list[str]


def processes(container: str) -> list[Process]:
    return msgspec.convert(json.loads(said("docker", "exec", container, "python", "-c", LOOK)), list[Process])


@pytest.fixture
def namespaces(project: Project) -> None:
    """Skips where the engine's kernel lets no container make user namespaces, whatever its seccomp profile."""
    make = ["-c", "import os; os.unshare(os.CLONE_NEWUSER)"]
    unconfined = [*HARDENED, "--security-opt=seccomp=unconfined", "--entrypoint=python"]
    command = ["docker", "run", *unconfined, "pinstream/crawler", *make]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode == 1:
        pytest.skip(f"the engine's kernel refuses user namespaces to containers: {made.stderr.splitlines()[-1]}")
    assert made.returncode == 0, made.stderr


@pytest.mark.usefixtures("namespaces")
async def test_renderers_are_in_a_sandbox_of_their_own(project: Project) -> None:
    await wait_until(partial(project.healthy, "crawler", "stand-in"), "the crawlers are healthy", READY_S)
    for container in project.containers("crawler"):
        seen: list[Process] = []

        def renderers(container_id: str = container["Id"]) -> list[Process]:
            nonlocal seen
            seen = processes(container_id)
            return [process for process in seen if process.kind == "renderer"]

        await wait_until(renderers, "a renderer runs, for a context is kept warm")
        service = next(process for process in seen if "services.crawler" in process.command and process.NSpid != ["1"])
        for renderer in renderers():
            assert renderer.Seccomp == ["2"]
            assert int(renderer.Seccomp_filters[0]) > int(service.Seccomp_filters[0])  # besides the container's own
            assert len(renderer.NSpid) > len(service.NSpid)  # a process namespace within the container's
            assert renderer.uid_map != service.uid_map  # a user namespace
            assert "0" not in renderer.Uid
            assert set(renderer.CapEff[0]) == {"0"}
        assert not any("--no-sandbox" in process.command for process in seen)


async def test_a_crawler_without_the_profile_does_not_start_and_says_why(project: Project) -> None:
    await wait_until(partial(project.healthy, "nats"), "the broker is healthy", READY_S)
    settings = ["--env=NATS_URL=nats://nats:4222", "--env=SITE_URL=http://stand-in:8800"]
    settings += [f"--volume={project.name}_key-crawler:/run/nats:ro", "--env=NATS_NKEY_FILE=/run/nats/crawler.nk"]
    command = ["docker", "run", *HARDENED, f"--network={project.name}_broker", *settings, "pinstream/crawler"]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert ended.returncode == EX_UNAVAILABLE, ended.stderr
    assert "BROWSER_SANDBOX is required" in ended.stderr
    assert "deploy/seccomp/chromium.json" in ended.stderr
