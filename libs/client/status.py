"""`pinstream status`: how the whole is, as a gateway tells."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import nullcontext, suppress
from datetime import datetime

import httpx2
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from libs.client.errors import GatewayUnreachable, RequestRefused
from libs.client.gateways import Document, addresses, ask, gateways
from libs.common.exit_codes import EX_UNAVAILABLE, EX_USAGE

EX_DOWN = 1
EVERY_S = 1.0
PATH = "/v1/status"
SILENT_FROM_S = 2.0  # an answer a second is usual
STYLES = {"ready": "green", "unready": "yellow", "stopping": "cyan", "stopped": "dim", "lost": "bold red"}


def down(document: Document) -> list[str]:
    """The services that cannot do their part; all, where the gateway itself knows nothing of now."""
    return [one["service"] for one in document["services"] if document["stale"] or not one["ready"]]


def verdict(document: Document) -> str:
    """In a sentence."""
    lacking = down(document)
    if document.get("unheard"):
        return "no gateway answers; this is what was known last"
    if document["stale"]:
        return "the gateway has lost the broker; this is what was known last"
    if lacking:
        return f"no replica can take work of: {', '.join(lacking)}"
    trouble = document["broker"]["trouble"]
    return f"every service has a replica that can take work{f', but {trouble}' if trouble else ''}"


def view(document: Document, width: int) -> Group:
    """The whole as tables."""
    style = "bold red" if down(document) else "yellow" if document["broker"]["trouble"] else "green"
    return Group(
        Text(verdict(document), style=style), _replicas(document, width), Text(_sessions(document)), _queues(document)
    )


def _replicas(document: Document, width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ("replica", "state", "in hand", "a second", "takes", "memory", "up", "version", "last error")
    wide = width >= 110
    for name in columns if wide else columns[:-4]:
        right = name in ("in hand", "a second", "takes", "memory", "up")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "last error", overflow="fold")
    for service in document["services"]:
        if not service["replicas"]:
            cells = [service["service"], Text("none", style=STYLES["lost"])]
            table.add_row(*cells)
        for replica in service["replicas"]:
            cells = _row(service["service"], replica, document["now"])
            table.add_row(*(cells if wide else cells[:-4]))
            error = replica["last_error"]
            if error and not wide:
                table.add_row(Text(f"  {error['message']}", style="dim", overflow="fold"))
    return table


def _row(service: str, replica: Document, now: str) -> list[str | Text]:
    name, state = replica["replica"], replica["state"]
    works = [work for work in replica["endpoints"] if not work["name"].startswith("suspects")]
    first = works[0] if works else None
    error = replica["last_error"]
    silent = f" for {_span(replica['silent_s'])}" if replica["silent_s"] > SILENT_FROM_S else ""
    not_held = [check for check, holds in replica["checks"].items() if not holds]
    why = f": not {', '.join(not_held)}" if state == "unready" else silent
    return [
        name if name.startswith(service) else f"{service} {name}",
        Text(state + why, style=STYLES.get(state, "")),
        "-" if first is None else f"{first['busy']}" + (f"/{first['most']}" if first["most"] else ""),
        _number(first and first["per_second"]),
        _milliseconds(first and first["latency_ms"]),
        "-" if replica["memory_bytes"] is None else f"{replica['memory_bytes'] / 1e6:.0f} MB",
        _span(_seconds(replica["started_at"], now)) if state not in ("lost", "stopped") else "-",
        replica["version"],
        Text("-" if error is None else f"{_span(_seconds(error['at'], now))} ago: {error['message']}", overflow="fold"),
    ]


def _sessions(document: Document) -> str:
    sessions = document["sessions"]
    states = ", ".join(f"{count} {state}" for state, count in sessions["states"].items())
    return f"\n{sessions['running']} sessions under way" + (f": {states}" if states else "") + "\n"


def _queues(document: Document) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("queue", "waiting", "in hand", "oldest"):
        table.add_column(name, justify="left" if name == "queue" else "right", no_wrap=True)
    for queue in document["queues"]:
        oldest = "-" if queue["oldest_s"] is None else _span(queue["oldest_s"])
        table.add_row(queue["consumer"], str(queue["pending"]), str(queue["in_flight"]), oldest)
    return table


def _seconds(since: str, now: str) -> float:
    return (datetime.fromisoformat(now) - datetime.fromisoformat(since)).total_seconds()


def _span(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.0f} s"


async def _run(places: list[str], *, watch: bool, as_json: bool, api_key: str | None) -> int:
    console = Console()
    async with gateways(api_key) as client:
        document = await ask(client, places)
        if not watch:
            _write(document, console, as_json)
            return EX_DOWN if down(document) else 0
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        live = Live(console=console, auto_refresh=False, screen=False)
        with nullcontext() if as_json else live:
            while not stop.is_set():
                if as_json:
                    _write(document, console, as_json)
                else:
                    live.update(view(document, console.width), refresh=True)
                with suppress(TimeoutError):
                    async with asyncio.timeout(EVERY_S):
                        await stop.wait()
                document = await _again(client, places, document)
    return EX_DOWN if down(document) else 0


async def _again(client: httpx2.AsyncClient, places: list[str], before: Document) -> Document:
    """The whole once more; as it was, and marked as such, while no gateway answers."""
    try:
        return await ask(client, places)
    except GatewayUnreachable:
        return {**before, "stale": True, "unheard": True}


def _write(document: Document, console: Console, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
        sys.stdout.flush()
    else:
        console.print(view(document, console.width))


async def in_loop(urls: str, *, watch: bool, as_json: bool, api_key: str | None) -> int:
    """The command; what went wrong goes to standard error. Returns the exit code."""
    try:
        return await _run(addresses(urls, PATH), watch=watch, as_json=as_json, api_key=api_key)
    except (ValueError, RequestRefused) as error:
        print(f"pinstream: {error}", file=sys.stderr)
        return EX_USAGE
    except GatewayUnreachable as error:
        print(f"pinstream: {error}", file=sys.stderr)
        return EX_UNAVAILABLE


def run_status(urls: str, *, watch: bool, as_json: bool, api_key: str | None) -> int:
    """The same, as a process of its own."""
    return asyncio.run(in_loop(urls, watch=watch, as_json=as_json, api_key=api_key))
