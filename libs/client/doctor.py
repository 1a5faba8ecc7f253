"""`pinstream doctor`: what is missing on this machine, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable
from math import ceil
from typing import NamedTuple

import httpx2
from rich.console import Console
from rich.table import Table
from rich.text import Text

from libs.client.broker import find_server, version_of
from libs.client.errors import BrokerMissing
from libs.common.errors import BadSetting
from libs.common.ports import allow_rebinding
from libs.common.settings import UpstreamSettings, from_environment, without_password
from libs.common.streams import StreamSettings, streams

STORE_SHARE = 0.75  # of what is free: what the broker takes for its streams, if not told otherwise
PORTS = (8080, 8081, 8082, 8083, 8084)  # the gateway's, then those of each service's health
BROWSER_ADVICE = {
    "linux": "run scripts/install, or: apt-get install chromium",
    "darwin": "install Google Chrome, or: brew install --cask chromium, or: playwright install chromium",
    "win32": "install Google Chrome, or: playwright install chromium",
}
OTHER_SYSTEM = "install Chromium, and set BROWSER_EXECUTABLE to it"


class Finding(NamedTuple):
    """What one check found; `advice` says how to get what is missing. Only `required` ones decide the exit code."""

    what: str
    ok: bool
    found: str
    advice: str = ""
    required: bool = True


def check_python() -> Finding:
    """3.11 or newer."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("Python", sys.version_info >= (3, 11), found, "install Python 3.11 or newer")


def check_system() -> Finding:
    """One of those that this program knows."""
    found = f"{platform.system()} {platform.release()} ({platform.machine()})"
    advice = "Linux, macOS and Windows are known; others may do"
    return Finding("system", sys.platform in BROWSER_ADVICE, found, advice, False)


def check_browser() -> Finding:
    """A Chromium that starts."""
    advice = BROWSER_ADVICE.get(sys.platform, OTHER_SYSTEM)
    command = [sys.executable, "-m", "services.crawler.browser", "--find"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    path = done.stdout.strip()
    if done.returncode != 0:
        return Finding("browser", False, (done.stderr.strip().splitlines() or ["not found"])[-1], advice)
    if sys.platform == "win32":  # where it would open a window, and say nothing
        return Finding("browser", True, path)
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return Finding("browser", bool(version), f"{version or 'does not start'} ({path})", advice)


def check_broker() -> Finding:
    """A nats-server of 2.11 or newer, here or at NATS_URL."""
    url = os.environ.get("NATS_URL")
    if url:
        host, _, port = url.split(",")[0].rpartition("//")[2].rsplit("@", 1)[-1].partition(":")
        try:
            socket.create_connection((host, int(port or 4222)), timeout=3).close()
        except (OSError, ValueError) as error:
            return Finding(
                "broker", False, f"{without_password(url)}: {error}", "start nats-server there, or unset NATS_URL"
            )
        return Finding("broker", True, f"{without_password(url)} (NATS_URL)")
    try:
        binary = find_server()
    except BrokerMissing as error:
        return Finding("broker", False, "no nats-server", str(error))
    version = version_of(binary)
    return Finding("broker", True, f"nats-server {version[0]}.{version[1]} ({binary})" if version else str(binary))


def check_ports() -> Finding:
    """The usual ports are free."""
    taken = []
    for port in PORTS:
        with socket.socket() as sock:
            allow_rebinding(sock)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                taken.append(str(port))
    words = f"taken: {', '.join(taken)}" if taken else f"{PORTS[0]}-{PORTS[-1]} are free"
    return Finding("ports", not taken, words, "end what listens there, or choose another: pinstream up --port", False)


def room_for(settings: StreamSettings) -> int:
    """The bytes that have to be free for a broker to take the streams."""
    return ceil(sum(int(stream["max_bytes"]) for stream in streams(settings)) / STORE_SHARE)


def check_disk(settings: StreamSettings) -> Finding:
    """Room for the streams."""
    free, needed = shutil.disk_usage(tempfile.gettempdir()).free, room_for(settings)
    found = f"{free // 2**20} MiB free, {ceil(needed / 2**20)} are needed"
    return Finding("disk", free >= needed, found, f"free some in {tempfile.gettempdir()}, or: pinstream up --store DIR")


def check_certutil(settings: UpstreamSettings) -> Finding:
    """What the browser needs to trust UPSTREAM_CA_FILE."""
    if sys.platform in ("darwin", "win32"):  # whose certutil, where there is one, is another program
        given = settings.upstream_ca_file
        advice = "have the system trust the authorities of UPSTREAM_CA_FILE: its browsers take no others"
        return Finding("trust", not given, given or "the system's own", advice, False)
    found = shutil.which("certutil")
    advice = "apt-get install libnss3-tools (needed for UPSTREAM_CA_FILE alone)"
    return Finding("certutil", found is not None, found or "not found", advice, settings.upstream_ca_file is not None)


def check_site(settings: UpstreamSettings) -> Finding:
    """The site answers, through the proxy if one is set."""
    context = ssl.create_default_context()
    if settings.upstream_ca_file:
        context.load_verify_locations(settings.upstream_ca_file)
    advice = "see whether this machine reaches the Internet; set UPSTREAM_PROXY and UPSTREAM_CA_FILE where it must"
    try:
        with httpx2.Client(proxy=settings.upstream_proxy, verify=context, trust_env=False, timeout=10) as client:
            status = client.get(settings.site_url, follow_redirects=True).status_code
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return Finding("site", False, f"{settings.site_url}: {str(error) or type(error).__name__}", advice)
    return Finding("site", status < 400, f"{settings.site_url}: HTTP {status}", "the site refuses requests from here")


def run_doctor(site: str | None) -> int:
    """The command: a table of findings; 0 where all that is required is there, else 1."""
    console = Console()
    environ = {**os.environ, **({"SITE_URL": site} if site else {})}
    try:
        settings, of_streams = from_environment(UpstreamSettings, environ), from_environment(StreamSettings, environ)
    except BadSetting as error:
        console.print(Text(f"bad setting: {error}"))
        return 1
    checks: list[Callable[[], Finding]] = [
        check_system,
        check_python,
        check_browser,
        check_broker,
        check_ports,
        lambda: check_disk(of_streams),
        lambda: check_certutil(settings),
        lambda: check_site(settings),
    ]
    findings = [check() for check in checks]
    table = Table(box=None, pad_edge=False)
    for column in ("", "check", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        mark = Text("ok", "green") if finding.ok else Text("missing" if finding.required else "note", "yellow")
        table.add_row(mark, Text(finding.what), Text(finding.found), Text("" if finding.ok else finding.advice))
    console.print(table)
    return 0 if all(finding.ok for finding in findings if finding.required) else 1
