"""Asks a health endpoint of this machine, for images that have no curl.

`python -m libs.common.probe PORT [PATH]`: PORT is a number or the name of a variable that holds one. Exit code 0 where
the answer is 200, otherwise 1 and what the answer was.
"""

from __future__ import annotations

import os
import socket
import sys

TIMEOUT_S = 8.0  # shorter than the images' time-out of a check, so that there is a word about it


def probe(port: int, path: str = "/readyz") -> str:
    """What is wrong; empty where nothing is. By hand, for importing `http.client` takes six times as long."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as sock:
            sock.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
            with sock.makefile("rb") as answer:
                head, _, body = answer.read().decode(errors="replace").partition("\r\n\r\n")
    except OSError as error:
        return f"port {port} does not answer: {error}"
    status = head.partition("\r\n")[0].partition(" ")[2]
    return "" if status.startswith("200 ") else f"{status}: {body}".strip()


if __name__ == "__main__":
    port, *path = sys.argv[1:]
    wrong = probe(int(os.environ.get(port, port)), *path)
    sys.exit(wrong or 0)
