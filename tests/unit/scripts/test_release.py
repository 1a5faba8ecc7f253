"""The public workflows, the materials and the notes of a release."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"[\w./-]+@[0-9a-f]{40}")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_their_version_is_told(path: Path) -> None:
    text = path.read_text()
    uses = [line.strip().removeprefix("- ") for line in text.splitlines() if "uses:" in line]
    assert uses
    for line in uses:
        action, _, version = line.removeprefix("uses: ").partition(" # ")
        assert PINNED.fullmatch(action) and version.startswith("v"), line
    jobs = yaml.safe_load(text)["jobs"]
    assert all(job["timeout-minutes"] for job in jobs.values())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_scripts_that_are_there(path: Path) -> None:
    for script in re.findall(r"(?<![\w/])(scripts/[\w-]+|\.ci/run)(?![\w.])", path.read_text()):
        assert (ROOT / script).stat().st_mode & 0o111, script


def test_images_that_are_released_have_a_target() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    targets = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert set(jobs["images"]["strategy"]["matrix"]["target"]) <= set(targets)


def test_an_image_has_a_name_that_registries_take_whoever_owns_the_repository(tmp_path: Path) -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    [naming] = [step for step in jobs["images"]["steps"] if "GITHUB_ENV" in step.get("run", "")]
    assert naming["env"] == {"TARGET": "${{ matrix.target }}"}
    environ = {"TARGET": "gateway", "GITHUB_REPOSITORY_OWNER": "Example-Org", "GITHUB_ENV": str(tmp_path / "env")}
    subprocess.run(["/bin/bash", "-e", "-c", naming["run"]], env=environ, check=True)
    assert (tmp_path / "env").read_text() == "IMAGE=ghcr.io/example-org/pinstream-gateway\n"
    others = [step for step in jobs["images"]["steps"] if step is not naming]
    assert "repository_owner" not in str(others) and "env.IMAGE" in str(others)


def test_the_notes_of_a_version_are_its_part_of_the_changelog() -> None:
    def notes(version: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "scripts" / "release-notes"), version]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    changelog = (ROOT / "CHANGELOG.md").read_text()
    version = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert version
    found = notes(version[1])
    assert found.returncode == 0 and found.stdout.strip() in changelog and "\n## " not in found.stdout
    assert notes("99.0.0").returncode == 1


def test_a_tag_is_that_of_the_version_before_anything_is_pushed(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    script = shutil.copy(ROOT / "scripts" / "release-notes", tmp_path / "scripts")
    (tmp_path / "pyproject.toml").write_text(
        '[build]\nversion = "9"\n[project]\nversion = "1.2.0"\n[tool]\nversion = "8"\n'
    )

    def notes(tag: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([script, "--tag", tag], capture_output=True, text=True, check=False)

    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n- More.\n")
    assert (notes("v1.2.0").returncode, notes("v1.2.0").stdout) == (1, "")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.0\n\n- All.\n\n## 1.1.0\n")
    assert "All." in notes("v1.2.0").stdout
    assert notes("v1.2.1").returncode == notes("1.2.0").returncode == 1
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    [first] = [name for name, job in jobs.items() if "needs" not in job]
    assert 'scripts/release-notes --tag "$GITHUB_REF_NAME"' in [step.get("run") for step in jobs[first]["steps"]]
    assert "packages" not in jobs[first]["permissions"]


def test_images_for_another_processor_are_built_where_it_is_emulated() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    used = [step.get("uses", "").partition("@")[0] for step in jobs["images"]["steps"]]
    [build] = [step for step in jobs["images"]["steps"] if "build-push" in step.get("uses", "")]
    assert "linux/arm64" in build["with"]["platforms"]
    assert used.index("docker/setup-qemu-action") < used.index("docker/setup-buildx-action")


def test_the_materials_name_every_package_of_the_lock(tmp_path: Path) -> None:
    lock = ROOT / "deploy" / "locks" / "dedup.lock"
    program = ROOT / ".venv" / "bin" / "cyclonedx-py"
    if not program.exists():
        pytest.skip("not installed by scripts/install")
    done = subprocess.run([str(program), "requirements", str(lock)], capture_output=True, text=True, check=True)
    named = {component["purl"] for component in json.loads(done.stdout)["components"]}
    locked = re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock.read_text(), re.MULTILINE)
    assert locked and named >= {f"pkg:pypi/{name}@{version}" for name, version in locked}
