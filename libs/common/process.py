"""Child processes that never outlive their parent."""

from __future__ import annotations

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """In a child: it gets this signal when the parent dies, however that happens (Linux)."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, number)


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
