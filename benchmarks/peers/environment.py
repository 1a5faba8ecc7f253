"""Where the peers are: a Python with them as they are on the package index, made by hash when first asked for."""

from __future__ import annotations

import fcntl
import hashlib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
LOCK = HERE / "requirements.lock"
PLACE = Path(sys.prefix) / "peers"
INSTALL_S = 900


@cache
def programs() -> Path:
    """The folder of its programs, `python` among them; raises CalledProcessError where they cannot be had."""
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    stamp = PLACE / ".installed"
    with (Path(sys.prefix) / "peers.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # two runs may ask at once
        if not stamp.exists() or stamp.read_text() != wanted:
            _run([sys.executable, "-m", "venv", "--clear", str(PLACE)])
            options = ["--quiet", "--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps"]
            _run([str(PLACE / "bin" / "python"), "-m", "pip", "install", *options, "-r", str(LOCK)])
            stamp.write_text(wanted)
    return PLACE / "bin"


def versions() -> dict[str, str]:
    """Of the peers themselves, by the lock."""
    named = re.findall(r"^([a-z][\w-]*)", (HERE / "requirements.txt").read_text(), re.MULTILINE)
    lock = LOCK.read_text()
    return {name: match[1] for name in named if (match := re.search(rf"^{name}==(\S+)", lock, re.MULTILINE))}


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, timeout=INSTALL_S)
