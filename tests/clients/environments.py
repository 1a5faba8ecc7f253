"""Genuine clients, each kind in an environment of its own that is made, by hash, when first asked for."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NODE, PYTHON, WEBHOOKS = HERE / "node", HERE / "python", HERE / "webhooks"
VENVS = Path(sys.prefix) / "clients"
LEAST_NODE = 18
INSTALL_S = 900


@cache
def node() -> str:
    """The program `node`, with npm's `firebase` and `firebase-admin` beside it; skips where they cannot be had."""
    return _node(NODE)


@cache
def webhook_node() -> str:
    """Likewise with `standardwebhooks`, in WEBHOOKS."""
    return _node(WEBHOOKS)


def _node(folder: Path) -> str:
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        pytest.skip("Node.js and npm are not installed; scripts/install does it where apt is")
    version = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < LEAST_NODE:
        pytest.skip(f"Node.js {version} is too old; {LEAST_NODE} or newer is needed")
    quiet = ["--no-progress", "--no-fund", "--no-audit", "--loglevel=error"]
    command = [npm, "ci", "--ignore-scripts", "--omit=optional", *quiet]
    modules = folder / "node_modules"
    _once(modules / ".installed", folder / "package-lock.json", lambda: _run(command, folder), "npm")
    return program


@cache
def python() -> str:
    """A Python with `firebase-admin` and `pyrebase4`; skips where they cannot be had."""
    lock = PYTHON / "requirements.lock"
    place = VENVS / "python"
    program = place / "bin" / "python"

    def install() -> None:
        _run([sys.executable, "-m", "venv", "--clear", str(place)], HERE)
        options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps"]
        _run([str(program), "-m", "pip", "install", *options, "-r", str(lock)], HERE)

    _once(place / ".installed", lock, install, "pip")
    return str(program)


def _once(stamp: Path, lock: Path, install: Callable[[], None], what: str) -> None:
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    VENVS.mkdir(parents=True, exist_ok=True)
    with (VENVS / f"{what}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # two runs may ask at once
        if stamp.exists() and stamp.read_text() == wanted:
            return
        try:
            install()
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
            pytest.skip(f"{what} could not install genuine clients: {' '.join(said)}")
        stamp.write_text(wanted)


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=INSTALL_S)
