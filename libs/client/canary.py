"""`pinstream canary`: whether the site's shape is still the known one, asked of the crawler's own code."""

from __future__ import annotations

import os
import subprocess
import sys

QUIET = {"LOG_LEVEL": "ERROR", "LOG_FORMAT": "console"}


def run_canary(query: str | None, site: str | None, as_json: bool) -> int:
    """The command, by the crawler's settings; its one line goes to standard output. Returns the exit code."""
    command = [sys.executable, "-m", "services.crawler.canary"]
    command += ["--json"] * as_json + (["--", query] if query is not None else [])
    environ = {**QUIET, **os.environ, **({"SITE_URL": site} if site else {})}
    try:
        return subprocess.run(command, env=environ, check=False).returncode
    except KeyboardInterrupt:  # the child has had it too
        return 130
