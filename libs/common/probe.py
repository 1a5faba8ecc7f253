"""Asks a health endpoint of this machine, for images that have no curl.

`python -m libs.common.probe PORT [PATH]`: PORT is a number or the name of a variable that holds one. Exit code 0 where
the answer is 200, otherwise 1 and what the answer was.
"""

from __future__ import annotations

import http.client
import os
import sys

TIMEOUT_S = 4.0  # shorter than the images' time-out of a check, so that there is a word about it


def probe(port: int, path: str = "/readyz") -> str:
    """What is wrong; empty where nothing is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"port {port} does not answer: {error}"
    finally:
        connection.close()
    return "" if response.status == http.HTTPStatus.OK else f"{response.status} {body}".strip()


if __name__ == "__main__":
    port, *path = sys.argv[1:]
    wrong = probe(int(os.environ.get(port, port)), *path)
    sys.exit(wrong or 0)
