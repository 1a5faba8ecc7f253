"""What the audit says of what pip-audit found."""

from __future__ import annotations

from typing import Any

from scripts.audit import verdict

CLEAN: dict[str, Any] = {"name": "anyio", "version": "4.16.0", "vulns": []}
UNKNOWN: dict[str, Any] = {"name": "click", "skip_reason": "Dependency not found"}
WEAK: dict[str, Any] = {
    "name": "h11",
    "version": "0.15.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["0.16.0"]}, {"id": "PYSEC-2", "fix_versions": []}],
}


def test_a_silent_skip_is_told_as_not_audited() -> None:
    assert verdict([UNKNOWN, UNKNOWN]) == ("not audited: none of 2 packages is known to the index", 0)
    assert verdict([UNKNOWN], strict=True)[1] == 1
    words, code = verdict([CLEAN, UNKNOWN])
    assert (words.splitlines(), code) == (
        ["1 of 2 packages audited, 0 with known vulnerabilities", "not audited: click"],
        0,
    )
    assert verdict([CLEAN, UNKNOWN], strict=True)[1] == 1


def test_a_known_vulnerability_is_named_and_fails() -> None:
    words, code = verdict([CLEAN, WEAK])
    assert code == 1
    assert words.splitlines()[1:] == [
        "h11 0.15.0: PYSEC-1, fixed in 0.16.0",
        "h11 0.15.0: PYSEC-2, fixed in no version yet",
    ]
    assert verdict([CLEAN], strict=True)[1] == 0
