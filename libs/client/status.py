"""`pinstream status`: how the whole is, as a gateway tells."""

from __future__ import annotations

import asyncio
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
from libs.common.process import on_stop_signals

EX_DOWN = 1
EVERY_S = 1.0
PATH = "/v1/status"
SILENT_FROM_S = 2.0  # an answer a second is usual
COLUMNS = ("replica", "state", "in hand", "a second", "takes", "memory", "up", "version", "last error")
WIDE_COLUMNS = 110  # narrower terminals get no memory, and the errors below the table
PIPE_COLUMNS = 10_000  # where nobody's terminal is too narrow
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
    errors = [] if width >= WIDE_COLUMNS else _errors(document)
    head = Text(verdict(document), style=style)
    return Group(head, _replicas(document, width), *errors, Text(_sessions(document)), _queues(document))


def _replicas(document: Document, width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = [name for name in COLUMNS if width >= WIDE_COLUMNS or name not in ("memory", "last error")]
    for name in columns:
        right = name in ("in hand", "a second", "takes", "memory", "up")
        whole = right or name == "version"
        table.add_column(name, justify="right" if right else "left", no_wrap=whole, overflow="fold")
    for service in document["services"]:
        if not service["replicas"]:
            table.add_row(Text(service["service"]), Text("none", style=STYLES["lost"]))
        for replica in service["replicas"]:
            cells = dict(zip(COLUMNS, _row(service["service"], replica, document["now"]), strict=True))
            table.add_row(*(cells[name] for name in columns))
    return table


def _errors(document: Document) -> list[Text]:
    return [
        Text(f"  {_name(service['service'], replica)}, {_error(replica, document['now'])}", style="dim")
        for service in document["services"]
        for replica in service["replicas"]
        if replica["last_error"]
    ]


def _name(service: str, replica: Document) -> str:
    name: str = replica["replica"]
    return name if name.startswith(service) else f"{service} {name}"


def _error(replica: Document, now: str) -> str:
    error = replica["last_error"]
    return "-" if error is None else f"{_span(_seconds(error['at'], now))} ago: {error['message']}"


def _row(service: str, replica: Document, now: str) -> list[str | Text]:
    state = replica["state"]
    works = [work for work in replica["endpoints"] if not work["name"].startswith("suspects")]
    first = works[0] if works else None
    silent = f" for {_span(replica['silent_s'])}" if replica["silent_s"] > SILENT_FROM_S else ""
    not_held = [check for check, holds in replica["checks"].items() if not holds]
    why = f": not {', '.join(not_held)}" if state == "unready" else silent
    return [
        Text(_name(service, replica)),
        Text(state + why, style=STYLES.get(state, "")),
        "-" if first is None else f"{first['busy']}" + (f"/{first['most']}" if first["most"] else ""),
        _number(first and first["per_second"]),
        _milliseconds(first and first["latency_ms"]),
        "-" if replica["memory_bytes"] is None else f"{replica['memory_bytes'] / 1e6:.0f} MB",
        _span(_seconds(replica["started_at"], now)) if state not in ("lost", "stopped") else "-",
        Text(replica["version"]),
        Text(_error(replica, now)),
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
        table.add_row(Text(queue["consumer"]), str(queue["pending"]), str(queue["in_flight"]), oldest)
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
    if not console.is_terminal:
        console.width = PIPE_COLUMNS
    async with gateways(api_key) as client:
        document = await ask(client, places)
        if not watch:
            _write(document, console, as_json)
            return EX_DOWN if down(document) else 0
        stop = asyncio.Event()
        on_stop_signals(stop.set)
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
