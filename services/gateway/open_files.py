"""How many files this process may have open at once; every connection is one."""

from __future__ import annotations

import sys

import structlog

OWN = 128  # files beside the connections: the broker's, the log, the loop's, answers to probes

log = structlog.get_logger()


def raise_open_files() -> int:
    """Raises the soft limit, often 1,024, to the hard one, which needs no right; returns what holds now."""
    if sys.platform == "win32":  # it has no such limit
        return sys.maxsize
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):  # macOS has a hard limit without end, and refuses it
            return soft
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def connections_that_fit(wanted: int) -> int:
    """As many of `wanted` as this process may have open; says so where they are fewer.

    Who comes beyond them is then refused in a word. Without a file left nobody could be, and the broker not be reached.
    """
    limit = raise_open_files()
    fit = max(1, min(wanted, limit - OWN))
    if fit < wanted:
        log.warning(
            "the limit of open files is too low for CONNECTIONS_MOST; raise the hard one (ulimit -Hn, LimitNOFILE=)",
            open_files=limit,
            connections_most=wanted,
            served=fit,
        )
    return fit
