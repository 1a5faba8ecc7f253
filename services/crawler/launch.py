"""How Chromium is found and started: its executable, flags, sandbox, way out and trust."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import tempfile
from base64 import b64encode
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import structlog
from playwright.async_api import Browser, Error, Playwright

from libs.common.errors import StartFailed
from libs.common.source import SHORT_HOST, SHORTENER_HOST, is_pinterest
from services.crawler.settings import CrawlerSettings

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome", "msedge")
APPLICATIONS = {  # where there is no PATH to speak of
    "darwin": (
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
    ),
    "win32": (
        r"C:\Program Files\Google\Chrome\Application\chrome.exe",
        r"C:\Program Files (x86)\Google\Chrome\Application\chrome.exe",
        r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
    ),
}
HOW_TO_GET_ONE = "apt-get install chromium" if sys.platform == "linux" else "playwright install chromium"
NO_BROWSER = f"No Chromium was found; {HOW_TO_GET_ONE}, or set BROWSER_EXECUTABLE."
NO_CERTUTIL = "UPSTREAM_CA_FILE is set, but certutil is missing, without which Chromium cannot be told of it; "
NO_SANDBOX = (
    "BROWSER_SANDBOX is required, but Chromium may not make user namespaces here, or not change its root in them; let "
    "the container have the seccomp profile deploy/seccomp/chromium.json, and its host user.max_user_namespaces."
)
LAUNCH_TIMEOUT_MS = 30_000

_SANDBOX_REFUSED = ("no usable sandbox", "failed to move to new namespace", "check failed: sys_chroot")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_FEATURES_OFF = (  # of two such flags the last counts, so Playwright's own are among these
    *("WebRtcHideLocalIpsWithMdns", "MediaRouter", "OptimizationHints", "Translate", "AutofillServerCommunication"),
    *("WebUIOmniboxPopup", "WebUIOmniboxAimPopup"),  # Chromium's own pages: half of a context's processor time, 25 MB
    *("AimEnabled", "AvoidCorsURLLoaderRestartOnRedirect", "AvoidUnnecessaryBeforeUnloadCheckSync"),
    *("DestroyProfileOnBrowserClose", "HttpsFirstBalancedModeAutoEnable", "HttpsUpgrades", "LensOverlay"),
    *("NetworkTimeServiceQuerying", "PaintHolding", "PreconnectToSearch", "ThirdPartyStoragePartitioning"),
)
_FLAGS = (  # Playwright's own turn off background networking, updates, sync, extensions, first run and sound
    "--disable-quic",  # UDP, which goes past a proxy
    "--disable-domain-reliability",  # reports to the browser's maker
    "--no-pings",  # `<a ping>`
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",  # --force-webrtc-… does nothing in Chromium 156
    f"--disable-features={','.join(_FEATURES_OFF)}",
)

log = structlog.get_logger()


def find_executable(playwright: Playwright | None, chosen: str | None) -> str:
    """Chromium's path: the chosen one, Playwright's own, or the first on PATH. Raises StartFailed."""
    if chosen:
        return chosen
    if playwright is not None and Path(own := playwright.chromium.executable_path).is_file():
        return own
    for name in NAMES:
        if found := shutil.which(name):
            return found
    for path in APPLICATIONS.get(sys.platform, ()):
        if Path(path).is_file():
            return path
    raise StartFailed(NO_BROWSER)


class Allowed(NamedTuple):
    """What the browser may reach: the site's hosts and the media's, and those of short links at Pinterest.

    Of `hosts` a name stands for itself with its subdomains, on any port. `host:port` stands for that alone: so it is
    for what is given with a port, and for an address in digits or of this machine, where other ports are other
    services. The `exact` names stand for themselves, without subdomains.
    """

    hosts: tuple[str, ...]
    exact: tuple[str, ...]

    @classmethod
    def by(cls, settings: CrawlerSettings) -> Allowed:
        """By SITE_URL and MEDIA_HOSTS."""
        site = urlsplit(settings.site_url)
        found = [_allowed(site.hostname or "", site.port, (443 if site.scheme == "https" else 80,))]
        for entry in settings.media_hosts:
            parts = urlsplit(f"//{entry}")
            found.append(_allowed(parts.hostname or "", parts.port, (80, 443)))
        exact = (SHORT_HOST, SHORTENER_HOST) if is_pinterest(settings.site_url) else ()
        return cls(tuple(dict.fromkeys(host for hosts in found for host in hosts)), exact)

    def has(self, url: str) -> bool:
        """Whether `url` is on one of them."""
        try:
            parts = urlsplit(url)
            host = (parts.hostname or "").rstrip(".")
            port = parts.port or (443 if parts.scheme in ("https", "wss") else 80)
        except ValueError:
            return False
        at = f"{_bracketed(host)}:{port}"
        return host in self.exact or any(entry in (at, host) or host.endswith("." + entry) for entry in self.hosts)


def _allowed(host: str, port: int | None, usual: tuple[int, ...]) -> list[str]:
    if not host:
        return []
    if port is None and not _is_literal(host) and not _is_loopback(host):
        return [host.removeprefix("www.")]
    names = dict.fromkeys([host, host.removeprefix("www.")])
    return [f"{_bracketed(name)}:{at}" for name in names for at in ((port,) if port else usual)]


def egress(settings: CrawlerSettings) -> tuple[list[str], dict[str, Any] | None]:
    """Flags that let nothing out but to the allowed hosts, and Playwright's proxy option.

    Without a proxy no other name resolves, and no other literal either. A proxy resolves names itself, so there the
    rule alone would hold nothing back: a PAC script sends the allowed hosts to the proxy and all others to the rule.
    The proxy goes by a secret name, so that a page cannot reach what else is on the proxy's host. Chromium never asks
    a PAC script about loopback; for a site there (a test's) the proxy gets everything and is trusted to choose.
    """
    hosts, exact = Allowed.by(settings)
    if not settings.upstream_proxy:
        names = [*(rule for host in hosts for rule in _rules(host)), *(f"EXCLUDE {name}" for name in exact)]
        return [f"--host-resolver-rules={', '.join([*names, 'MAP * ~NOTFOUND'])}"], None
    proxy = urlsplit(settings.upstream_proxy)
    host, port = proxy.hostname or "", proxy.port or (443 if proxy.scheme == "https" else 80)
    option: dict[str, Any] = {"server": f"{proxy.scheme}://{_bracketed(host)}:{port}", "bypass": "<-loopback>"}
    if proxy.username:
        option |= {"username": proxy.username, "password": proxy.password or ""}
    if any(_is_loopback(urlsplit(f"//{allowed}").hostname or "") for allowed in hosts):
        return [f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {_bracketed(host)}"], option
    secret = f"{token_hex(16)}.invalid" if proxy.scheme == "http" else host  # a TLS proxy's name is in its certificate
    way = f"{'PROXY' if proxy.scheme == 'http' else 'HTTPS'} {_bracketed(secret)}:{port}"
    tests = " || ".join([*(_pac_test(allowed) for allowed in hosts), *(f'host == "{name}"' for name in exact)])
    script = f'function FindProxyForURL(url, host) {{ return ({tests}) ? "{way}" : "DIRECT"; }}'
    pac = "data:application/x-ns-proxy-autoconfig;base64," + b64encode(script.encode()).decode()
    rule = f"EXCLUDE {host}" if secret == host else f"MAP {secret} {_bracketed(host)}"
    rules = f"{rule}, MAP * ~NOTFOUND" if secret != host else f"MAP * ~NOTFOUND, {rule}"
    return [f"--host-resolver-rules={rules}", f"--proxy-pac-url={pac}"], option


async def start(playwright: Playwright, settings: CrawlerSettings, home: Path | None) -> Browser:
    """A running Chromium. Raises StartFailed, saying what to do."""
    executable = find_executable(playwright, settings.browser_executable)
    flags, proxy = egress(settings)
    environment: dict[str, str | float | bool] = {**os.environ, **({"HOME": str(home)} if home else {})}

    async def launch(sandbox: bool) -> Browser:
        return await playwright.chromium.launch(
            executable_path=executable,
            headless=True,
            chromium_sandbox=sandbox,
            args=[*_FLAGS, *flags],
            proxy=proxy,  # type: ignore[arg-type]
            env=environment,
            timeout=LAUNCH_TIMEOUT_MS,
            handle_sigint=False,
            handle_sigterm=False,
            handle_sighup=False,
        )

    try:
        if settings.browser_sandbox == "auto":
            return await _launch_auto(launch)
        return await launch(settings.browser_sandbox == "required")
    except Error as error:
        raise StartFailed(f"Chromium ({executable}) could not be started: {_why(error)}") from error


async def _launch_auto(launch: Any) -> Browser:
    if sys.platform != "win32" and os.geteuid() == 0:
        log.warning("the browser runs without its sandbox, because root started it; run as another user")
        return await launch(False)  # type: ignore[no-any-return]
    try:
        return await launch(True)  # type: ignore[no-any-return]
    except Error as error:
        if "sandbox" not in error.message.lower():
            raise
        log.warning("the browser runs without its sandbox, because the kernel refuses it; allow user namespaces")
        return await launch(False)  # type: ignore[no-any-return]


async def trust(ca_file: str) -> tempfile.TemporaryDirectory[str] | None:
    """A home directory whose NSS database trusts the authorities in `ca_file`; Chromium takes no PEM file.

    On macOS and Windows Chromium trusts what the system does, and nothing else can be told to it: None.
    """
    if sys.platform in ("darwin", "win32"):
        log.warning("the browser cannot be told of UPSTREAM_CA_FILE here; have the system trust its authorities")
        return None
    certutil = shutil.which("certutil")
    if certutil is None:
        raise StartFailed(NO_CERTUTIL + "apt-get install libnss3-tools.")
    found = _PEM.findall(await asyncio.to_thread(Path(ca_file).read_text, errors="replace"))
    if not found:
        raise StartFailed(f"UPSTREAM_CA_FILE: {ca_file} holds no certificate in PEM form.")
    home = tempfile.TemporaryDirectory(prefix="pinstream-browser-")
    database = f"{home.name}/.pki/nssdb"
    await asyncio.to_thread(os.makedirs, database)
    await _run(certutil, "-N", "--empty-password", "-d", f"sql:{database}")
    for number, pem in enumerate(found):
        name = f"pinstream-{number}"
        await _run(certutil, "-A", "-d", f"sql:{database}", "-n", name, "-t", "C,,", "-a", stdin=pem.encode())
    return home


async def _run(*command: str, stdin: bytes = b"") -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate(stdin)
    if process.returncode:
        raise StartFailed(f"certutil could not take UPSTREAM_CA_FILE in: {output.decode(errors='replace').strip()}")


def _why(error: Error) -> str:
    said = error.message.lower()
    if "running as root without --no-sandbox" in said:
        return "BROWSER_SANDBOX is required, but root started it; run as another user."
    if any(words in said for words in _SANDBOX_REFUSED):
        return NO_SANDBOX
    lines = [line.strip() for line in error.message.splitlines() if "err]" in line or "rror" in line]
    return (lines or [error.message.splitlines()[0]])[0][:300]


def _rules(allowed: str) -> tuple[str, ...]:
    """The resolver's rules for it; the first that fits counts, but for EXCLUDE, which knows no ports and goes first."""
    if _has_port(allowed):
        return (f"MAP {allowed} {allowed}",)
    return (f"EXCLUDE {allowed}", f"EXCLUDE *.{allowed}")


def _pac_test(allowed: str) -> str:
    if _has_port(allowed):
        return f'host == "{urlsplit("//" + allowed).hostname}"'
    return f'host == "{allowed}" || dnsDomainIs(host, ".{allowed}")'


def _has_port(allowed: str) -> bool:
    return ":" in allowed


def _is_literal(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.") or host.endswith(".localhost")
