from __future__ import annotations

import re
import tomllib
from pathlib import Path

from libs.common.version import VERSION

ROOT = Path(__file__).parents[3]


def test_the_version_is_that_of_the_project_and_a_semantic_one() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)  # the micro protocol asks for one
