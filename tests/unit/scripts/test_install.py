"""What installs, on a machine that has no more than macOS has."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SHARED = ("bash", "cat", "cut", "dirname", "id", "ls", "shasum")  # what macOS has of what the script calls


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder of commands to be the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in SHARED:
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"{name} is not installed")
        (folder / name).symlink_to(found)
    for name, said in (("uname", "Darwin"), ("node", ""), ("npm", "")):
        (folder / name).write_text(f"#!/bin/sh\necho {said}\n")
        (folder / name).chmod(0o755)
    return folder


def test_what_macos_has_suffices_where_all_is_there(tmp_path: Path, path: Path) -> None:
    project, home = tmp_path / "project", tmp_path / "home"
    for folder in (project / "scripts", project / ".venv", home / "Library/Caches/ms-playwright/chromium-1"):
        folder.mkdir(parents=True)
    for name in ("scripts/install", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, project / name)
    known = (ROOT / "requirements.lock").read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    (project / ".venv/.stamp").write_text(hashlib.sha256(known).hexdigest())
    environ = {"PATH": str(path), "HOME": str(home)}
    done = subprocess.run([project / "scripts/install"], env=environ, capture_output=True, text=True, check=False)
    wanted = "install: please install prometheus, with promtool, for the tests of dashboards and alerts\n"
    assert (done.returncode, done.stderr) == (0, wanted)
