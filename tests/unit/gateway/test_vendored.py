from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

VENDOR = Path(__file__).parents[3] / "services" / "gateway" / "static" / "vendor"
LINE = re.compile(r"^ {4}([0-9a-f]{64})  (\S+)$", re.MULTILINE)


def test_what_is_not_ours_is_as_it_was_published() -> None:
    found = LINE.findall((VENDOR / "uPlot.md").read_text())
    assert {name for _, name in found} == {"uPlot.esm.js", "uPlot.min.css"}
    for digest, name in found:
        assert sha256((VENDOR / name).read_bytes()).hexdigest() == digest
