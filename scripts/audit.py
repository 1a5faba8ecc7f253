"""Asks an index of advisories about every package of the lock; where none can be reached it says so.

Exit code 1 where a package has a known vulnerability, with `--strict` also where any was not audited. A package that
the index does not know counts as not audited: silence about it would read as clean.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
PATIENCE_S = 120


def verdict(dependencies: list[dict[str, Any]], *, strict: bool = False) -> tuple[str, int]:
    """What pip-audit's list says, in a line or more, and the exit code."""
    skipped = [dependency["name"] for dependency in dependencies if "skip_reason" in dependency]
    found = [dependency for dependency in dependencies if dependency.get("vulns")]
    audited = len(dependencies) - len(skipped)
    if not audited:
        return f"not audited: none of {len(dependencies)} packages is known to the index", int(strict)
    lines = [f"{audited} of {len(dependencies)} packages audited, {len(found)} with known vulnerabilities"]
    if skipped:
        lines.append(f"not audited: {', '.join(sorted(skipped))}")
    for dependency in found:
        for vulnerability in dependency["vulns"]:
            fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
            lines.append(f"{dependency['name']} {dependency['version']}: {vulnerability['id']}, fixed in {fixed}")
    return "\n".join(lines), int(bool(found) or (strict and bool(skipped)))


def main(arguments: list[str]) -> int:
    strict = arguments == ["--strict"]
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--require-hashes", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        dependencies = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        print(f"audit: not audited: no answer within {PATIENCE_S} s")
        return int(strict)
    except json.JSONDecodeError:
        print(f"audit: not audited: {(done.stderr.strip().splitlines() or ['no answer'])[-1]}")
        return int(strict)
    words, code = verdict(dependencies, strict=strict)
    print("\n".join(f"audit: {line}" for line in words.splitlines()))
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
