"""How much memory a tree of processes takes, what they share counted once."""

from __future__ import annotations

from contextlib import suppress

import psutil


def tree_of(pid: int) -> list[psutil.Process]:
    """The process `pid` and all that descend from it; none where it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def footprint(process: psutil.Process) -> int:
    """Bytes: its proportional set size; where the kernel keeps that to itself, as of sandboxed renderers, what is
    resident and not shared; 0 where it is gone."""
    with suppress(psutil.NoSuchProcess):
        try:
            full = process.memory_full_info()
            return int(getattr(full, "pss", 0) or full.uss)
        except psutil.AccessDenied:
            memory = process.memory_info()
            return int(memory.rss - getattr(memory, "shared", 0))
    return 0


def footprint_mb(pid: int) -> float:
    """Megabytes (of 2^20 bytes) of the whole tree under `pid`."""
    return sum(map(footprint, tree_of(pid))) / 2**20
