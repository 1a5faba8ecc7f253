"""Exit codes of the commands and of the services; those above 2 as sysexits.h and the shell have them."""

from __future__ import annotations

EX_FAILED = 1
EX_USAGE = 2
EX_UNAVAILABLE = 69  # what it needs is not there
EX_SOFTWARE = 70
EX_CONFIG = 78  # settings that cannot be used
EX_INTERRUPTED = 130
