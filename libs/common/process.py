"""Child processes that never outlive their parent, and signals, on Linux, macOS and Windows."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

PR_SET_PDEATHSIG = 1
LEASH = "PINSTREAM_LEASH"  # in a child's environment: it ends when its standard input does, which its parent holds

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """In a child: it gets this signal when the parent dies, however that happens (Linux)."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, number)


def apart() -> dict[str, Any]:
    """Options of `subprocess` for a child that does not hear the terminal's Ctrl-C and, on Linux, dies with its parent.

    Elsewhere a child that is a service is held by a leash (`leashed`), and any other by who starts it.
    """
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    if sys.platform == "linux":
        return {"start_new_session": True, "preexec_fn": die_with_parent}
    return {"start_new_session": True}


def leashed(environ: dict[str, str]) -> tuple[dict[str, str], int]:
    """A child's environment and standard input such that it ends with its parent where no signal tells it."""
    if sys.platform == "linux":
        return environ, subprocess.DEVNULL
    return {**environ, LEASH: "1"}, subprocess.PIPE


def on_leash(callback: Callable[[], object]) -> None:
    """In a child, from its event loop: calls back when its parent is gone, if it was started `leashed`."""
    if not os.environ.pop(LEASH, ""):
        return
    loop = asyncio.get_running_loop()

    def wait() -> None:
        while sys.stdin.buffer.read(1):
            pass
        loop.call_soon_threadsafe(callback)

    threading.Thread(target=wait, name="leash", daemon=True).start()


def on_stop_signals(callback: Callable[[], object]) -> None:
    """Calls back, in the running loop, when this process is told to stop: SIGTERM, Ctrl-C, on Windows Ctrl-Break."""
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGTERM, signal.SIGINT]
    if sys.platform == "win32":
        numbers.append(signal.SIGBREAK)
    for number in numbers:
        _on_signal(loop, number, callback)


def _on_signal(loop: asyncio.AbstractEventLoop, number: int, callback: Callable[[], object]) -> None:
    try:
        loop.add_signal_handler(number, callback)
    except NotImplementedError:  # Windows' loops
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(callback))


def tell_to_stop(pid: int) -> None:
    """Tells a child that was started with `apart` to stop gently; raises ProcessLookupError where it is gone."""
    if sys.platform == "win32":
        os.kill(pid, signal.CTRL_BREAK_EVENT)
    else:
        os.kill(pid, signal.SIGTERM)


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
