"""The rules of the layout, held against the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("libs/**/*.py"), *ROOT.glob("services/**/*.py")])
SUBJECT = re.compile(
    r"\"(search\.(requests|cancel)|media\.(raw|direct|lease)|results\.|\$KV\.|dead\.|quarantine\.|webhooks\.|\$SRV\."
    r"|replica\.status\.)"
)


def imports(path: Path) -> set[str]:
    """The modules that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_common_calls_no_service_and_services_do_not_import_each_other(path: Path) -> None:
    parts = path.relative_to(ROOT).parts
    for module in imports(path):
        if module.startswith("services"):
            assert parts[0] == "services" and module.split(".")[1] == parts[1], f"{name(path)} imports {module}"
        if parts[:2] == ("libs", "common"):
            assert not module.startswith("libs.client")
        assert not module.startswith("tests")


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_the_nats_client_is_imported_by_the_bus_alone(path: Path) -> None:
    uses = any(module == "nats" or module.startswith("nats.") for module in imports(path))
    assert not uses or name(path) == "libs/common/bus.py"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_subjects_are_spelled_in_one_file(path: Path) -> None:
    if name(path) == "libs/common/subjects.py":
        return
    assert not SUBJECT.search(path.read_text()), f"{name(path)} spells a subject"


@pytest.mark.parametrize("service", ["gateway", "crawler", "transformer", "dedup"])
def test_each_service_has_its_wiring_and_its_settings(service: str) -> None:
    folder = ROOT / "services" / service
    assert (folder / "__main__.py").is_file()
    assert (folder / "settings.py").is_file()
