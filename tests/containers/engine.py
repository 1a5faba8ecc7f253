"""A Docker engine, where there is one, and the project of docker-compose.yml run on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[2]


def said(*command: str, **environ: str) -> str:
    """What a command wrote; fails with its words where it failed."""
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout.strip()


@cache
def lacking() -> str | None:
    """Why containers cannot be run here; None where they can."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    asked = subprocess.run(["docker", "version", "--format", "{{.Server.Os}}"], capture_output=True, check=False)
    if asked.returncode:
        return "no Docker engine runs"
    if asked.stdout.strip() != b"linux":
        return "the Docker engine runs no Linux containers"
    return None if compose_command() else "there is neither docker compose nor docker-compose"


@cache
def compose_command() -> list[str] | None:
    """Compose as it is here: the engine's plugin, or the older program."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


class Project(msgspec.Struct, frozen=True):
    """docker-compose.yml as a project of its own, and files that go over it."""

    name: str
    environ: dict[str, str]
    over: tuple[str, ...] = ()

    def compose(self, *arguments: str) -> str:
        """What compose says to them."""
        command = compose_command()
        assert command is not None
        files = [f"--file={file}" for file in ("docker-compose.yml", *self.over)]
        return said(*command, *files, "--project-name", self.name, *arguments, **self.environ)

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """Docker's description of each container of these services, or of all."""
        ids = self.compose("ps", "-q", *services).split()
        described: list[dict[str, Any]] = json.loads(said("docker", "inspect", *ids)) if ids else []
        return described

    def healthy(self, *services: str) -> bool:
        """Whether each of their containers that has a check of its health passes it."""
        states = [container["State"] for container in self.containers(*services)]
        return all(state["Health"]["Status"] == "healthy" for state in states if "Health" in state)


@contextmanager
def running(name: str, environ: dict[str, str], *over: str) -> Iterator[Project]:
    """All of it, built and started; nothing of it is left afterwards but the images."""
    project = Project(name, environ, over)
    try:
        project.compose("up", "--detach", "--build")
        yield project
    finally:
        project.compose("down", "--volumes", "--remove-orphans")
