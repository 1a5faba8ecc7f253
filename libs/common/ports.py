"""Whether one may listen at a port of this machine."""

from __future__ import annotations

import socket
import sys


def allow_rebinding(sock: socket.socket) -> None:
    """A port whose last connections are being forgotten counts as free, as it does for a server.

    Windows lets one rebind such a port by itself, and by that option take over one that is in use.
    """
    if sys.platform != "win32":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
