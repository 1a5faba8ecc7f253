from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from libs.client.gateways import addresses
from libs.client.status import PATH, down, verdict, view

NOW = "2026-01-31T12:00:00.000+00:00"


def replica(name: str, state: str = "ready", **more: Any) -> dict[str, Any]:
    work = {"name": "items", "busy": 3, "most": 200, "per_second": 12.5, "latency_ms": 41.0}
    given = {
        "id": "1", "replica": name, "state": state, "silent_s": 0.4, "version": "0.1.0", "host": "h", "pid": 7,
        "started_at": "2026-01-31T09:00:00.000+00:00", "memory_bytes": 61_000_000, "checks": {}, "facts": {},
        "endpoints": [work], "last_error": None,
    }  # fmt: skip
    return {**given, **more}


def document(**more: Any) -> dict[str, Any]:
    services = [
        {"service": "transformer", "ready": 1, "stages": [], "replicas": [replica("transformer-1")]},
        {"service": "dedup", "ready": 1, "stages": [], "replicas": [replica("pod-7")]},
    ]
    given = {
        "now": NOW, "heard_at": NOW, "stale": False, "broker": {"connected": True, "trouble": None},
        "sessions": {"running": 3, "states": {"crawling": 2, "queued": 1}}, "services": services,
        "queues": [{"consumer": "transformer", "pending": 40, "in_flight": 3, "redelivered": 0, "oldest_s": 130.0}],
        "streams": [],
    }  # fmt: skip
    return {**given, **more}


def shown(found: dict[str, Any], width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(view(found, width))
    return console.export_text()


@pytest.mark.parametrize(
    ("urls", "found"),
    [
        ("ws://127.0.0.1:8080/ws", ["http://127.0.0.1:8080/v1/status"]),
        ("wss://a.example/ws, https://b.example/", ["https://a.example/v1/status", "https://b.example/v1/status"]),
        ("wss://a.example/pinstream/ws", ["https://a.example/pinstream/v1/status"]),
    ],
)
def test_a_gateway_is_asked_where_its_websocket_is(urls: str, found: list[str]) -> None:
    assert addresses(urls, PATH) == found


@pytest.mark.parametrize("urls", ["", "localhost:8080", "ftp://a.example/ws"])
def test_what_is_no_address_is_refused(urls: str) -> None:
    with pytest.raises(ValueError):
        addresses(urls, PATH)


def test_all_is_well_where_each_service_has_a_replica_that_is_ready() -> None:
    assert down(document()) == []
    assert "every service" in verdict(document())


def test_a_service_without_a_ready_replica_is_named() -> None:
    lacking = document()
    lacking["services"][1] |= {"ready": 0, "replicas": [replica("pod-7", "lost", endpoints=[], memory_bytes=None)]}
    assert down(lacking) == ["dedup"]
    assert verdict(lacking) == "no replica can take work of: dedup"


def test_what_was_known_last_counts_for_nothing() -> None:
    assert down(document(stale=True)) == ["transformer", "dedup"]
    assert "lost the broker" in verdict(document(stale=True))


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_shows_load_state_and_error(width: int) -> None:
    found = document()
    error = {"message": "the CDN does not answer", "at": "2026-01-31T11:58:00.000+00:00"}
    found["services"][0]["replicas"] += [
        replica("transformer-2", "unready", checks={"items": False, "running": True}, last_error=error),
        replica("transformer-3", "lost", silent_s=12.2, endpoints=[], memory_bytes=None),
    ]
    text = shown(found, width)
    assert "unready: not items" in text
    assert "lost for 12 s" in text
    assert "the CDN does not answer" in text
    assert "3/200" in text and "12.5" in text and "41 ms" in text
    assert "dedup pod-7" in text
    assert text.count("0.1.0") == 4 and "3 h" in text
    assert "3 sessions under way: 2 crawling, 1 queued" in text
    assert "2 min" in text  # the oldest of the queue
    assert all(len(line) <= width for line in text.splitlines())


def test_long_names_and_errors_leave_the_version_whole() -> None:
    error = {"message": "the CDN does not answer " * 9, "at": NOW}
    found = document()
    found["services"][0]["replicas"] = [
        replica("transformer-6d5f7c9b8f-abcde", "lost", silent_s=12.2, last_error=error)
    ]
    lines = shown(found, 80).splitlines()
    assert next(line for line in lines if "lost for 12 s" in line).rstrip().endswith("0.1.0")


@pytest.mark.parametrize("width", [80, 160])
def test_names_are_shown_as_they_are_and_never_read_as_markup(width: int) -> None:
    found = document()
    found["services"][0]["replicas"] = [replica("[/prod]", version="[b]1", checks={"[/c]": False}, state="unready")]
    found["services"] += [{"service": "[/other]", "ready": 0, "stages": [], "replicas": []}]
    found["queues"][0]["consumer"] = "[/queue]"
    text = shown(found, width)
    assert all(name in text for name in ("[/prod]", "[b]1", "[/c]", "[/other]", "[/queue]"))
