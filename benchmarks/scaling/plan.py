"""What so many sessions an hour need: pods, servers of the broker and dollars, by the measured costs.

Sizes come from shares: no process is to be busy for more than `BUSY` of the time. Cells are whole systems side by side,
each with its own broker and a share of the sessions: every gateway and crawler hears all records of its cell, so that
what hearing costs grows with the square of a cell.
"""

from __future__ import annotations

from itertools import count
from math import ceil
from typing import Any

import msgspec

from benchmarks.scaling.costs import Costs

BUSY = 0.6  # of a process or server, so that bursts wait for milliseconds and a lost replica is borne
MOST_PACE = 100.0  # REQUESTS_PER_SECOND may be no more, and is a cell's own
SOCKETS = 2_000  # open ones a gateway: k8s/components/autoscaling
SLOTS = 50 * 0.8  # searches a crawler, of SESSIONS
CRAWLER_CORES = 2.0  # its limit in k8s/base: Chromium uses several
VCPU, NODE_GB, NODE_USED = 2, 8, 0.85  # the node that the price is of; the rest is the system's own
SERVERS = 3
MEMORY_GB = {"crawler": 1.0, "transformer": 0.125, "dedup": 0.125, "gateway": 0.25}  # requests of k8s/base
CONTEXTS_PER_S = 0.6  # that a crawler makes at most: one is warmed a second after the last was taken, and takes 0.6 s
LEAST = {"crawler": 1, "transformer": 2, "dedup": 2, "gateway": 2}  # of production
SERVER_VCPUS = (2, 4, 8, 16, 32)
RECORDS = 6  # of a session besides its outcomes: request, owner, progress several times, crawled
RAW_BYTES, DIRECT_BYTES = 1_500, 1_500
CLAIMS = 0.5  # of what a leader takes at most
HOURS_A_MONTH = 730
CELLS = (1, 2, 4, 8, 16, 32, 64, 128)
GB = 1e9


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be served."""

    sessions_an_hour: float
    videos: float = 20.0  # of each session
    pages: int = 1  # requests to the site's feed for each session
    pace: float = 3.0  # that the site bears, requests a second of all cells together (REQUESTS_PER_SECOND)
    crawl_s: float = 5.0  # for which a search has its crawler
    open_s: float = 30.0  # for which it has a socket
    kept_h: float = 24.0  # session logs: RESULTS_MAX_AGE_S


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Of all cells together, where not said otherwise."""

    asked: Asked
    cells: int
    pods: dict[str, int]  # of one cell
    busy: dict[str, float]  # how much of each pod, or server, in one cell
    servers: int  # of the broker
    server_vcpu: int
    nodes: int  # of two vCPU, for the pods
    site_requests_per_s: float
    results_gb: float  # a cell keeps, once
    dollars_an_hour: dict[str, float]
    limits: list[str]  # what decides, in words

    @property
    def total(self) -> float:
        """Dollars an hour."""
        return sum(self.dollars_an_hour.values())


class _Cell(msgspec.Struct):
    """Rates of one cell, by the second."""

    sessions: float
    items: float
    records: float
    frames: float


def plan(costs: Costs, asked: Asked, prices: dict[str, Any], cells: int | None = None) -> Plan:
    """The cheapest number of cells that bears it, or that many. Raises ValueError where none does."""
    found = [one for count in ([cells] if cells else CELLS) if (one := _of(costs, asked, prices, count)) is not None]
    if not found:
        raise ValueError(f"no number of cells bears {asked.sessions_an_hour:,.0f} sessions an hour")
    return min(found, key=lambda one: one.total)


def _of(costs: Costs, asked: Asked, prices: dict[str, Any], cells: int) -> Plan | None:
    each = asked.sessions_an_hour / 3600 / cells
    items = each * asked.videos * costs.items_per_video
    if each * asked.pages > min(MOST_PACE, asked.pace / cells):
        return None
    cell = _Cell(each, items, items + each * RECORDS, each * asked.videos)
    pods, busy, limits = _pods(costs, asked, cell)
    if pods is None:
        return None
    followers = pods["gateway"] + pods["crawler"]
    broker_ms = costs.copies * (items * costs.broker_item + each * costs.broker_session)
    broker_ms += cell.records * costs.broker_hear * followers
    kept = cell.records * asked.kept_h * 3600
    ram_gb = kept * costs.key_ram / GB
    vcpu = next(
        (
            one
            for one in SERVER_VCPUS
            if broker_ms / (SERVERS * one * 1000) <= BUSY and ram_gb <= 0.5 * one / VCPU * NODE_GB
        ),
        None,
    )
    if vcpu is None or cell.records > CLAIMS * costs.claims_per_s:
        return None
    busy["nats"] = broker_ms / (SERVERS * vcpu * 1000)
    if ram_gb > 0.25 * vcpu / VCPU * NODE_GB:
        limits.append("nats: memory of the keys")
    cpu = sum(pods[name] * (CRAWLER_CORES if name == "crawler" else 1.0) for name in pods)
    memory = sum(count * MEMORY_GB[name] for name, count in pods.items())
    nodes = max(2, ceil(max(cpu / VCPU, memory / NODE_GB) / NODE_USED))
    record_bytes = costs.key_disk
    heard_gb = cell.records * record_bytes * followers / GB * 3600
    copied_gb = (items * (RAW_BYTES + DIRECT_BYTES) + cell.records * record_bytes) * (SERVERS - 1) / GB * 3600
    moved_gb = items * (RAW_BYTES + DIRECT_BYTES) * 2 / GB * 3600
    price = {name: float(prices[name]["dollars"]) for name in prices if name != "source"}
    elsewhere = 2 / 3  # of the traffic between any two, in three zones
    return Plan(
        asked=asked,
        cells=cells,
        pods=pods,
        busy={name: round(share, 3) for name, share in busy.items()},
        servers=SERVERS * cells,
        server_vcpu=vcpu,
        nodes=nodes * cells,
        site_requests_per_s=asked.sessions_an_hour / 3600 * asked.pages,
        results_gb=kept * record_bytes / GB,
        dollars_an_hour={
            "pods": nodes * cells * price["node_hour"],
            "nats": SERVERS * cells * vcpu / VCPU * price["node_hour"],
            "between zones": cells * (copied_gb + (heard_gb + moved_gb) * elsewhere) * price["between_zones_gb"],
            "to clients": cells * cell.frames * record_bytes / GB * 3600 * price["to_clients_gb"],
            "disk": cells * SERVERS * kept * record_bytes / GB * 1.5 * price["disk_gb_month"] / HOURS_A_MONTH,
        },
        limits=limits,
    )


def _pods(costs: Costs, asked: Asked, cell: _Cell) -> tuple[dict[str, int] | None, dict[str, float], list[str]]:
    """Pods of each service in a cell; None where hearing alone takes all of a process."""
    heard = cell.records * costs.hear / 1000  # of each gateway and crawler
    if heard > BUSY / 2:
        return None, {}, []
    transformers = next(n for n in count(1) if cell.items * costs.resolve_at(n) / 1000 <= BUSY * n)
    work = {
        "crawler": (cell.sessions * costs.crawl_session + cell.items * costs.crawl_item) / 1000,
        "transformer": cell.items * costs.resolve_at(max(transformers, LEAST["transformer"])) / 1000,
        "dedup": (cell.items * costs.settle + cell.sessions * costs.dedup_session) / 1000,
        "gateway": (cell.frames * max(0.0, costs.frame - costs.hear) + cell.sessions * costs.gateway_session) / 1000,
    }
    made = CONTEXTS_PER_S * costs.crawl_context / 1000
    room = {"crawler": BUSY * CRAWLER_CORES - heard - made, "transformer": BUSY, "dedup": BUSY, "gateway": BUSY - heard}
    by_work = {name: ceil(work[name] / room[name]) for name in work}
    by_count = {
        "crawler": ceil(cell.sessions * asked.crawl_s / SLOTS),
        "gateway": ceil(cell.sessions * asked.open_s / SOCKETS),
    }
    pods = {name: max(by_work[name], by_count.get(name, 0), LEAST[name]) for name in work}
    limits = [
        f"{name}: {'its slots' if name == 'crawler' else 'open sockets'}"
        if by_count.get(name, 0) > by_work[name]
        else f"{name}: processor"
        for name in work
        if pods[name] > LEAST[name]
    ]
    over = {"crawler": CRAWLER_CORES, "transformer": 1.0, "dedup": 1.0, "gateway": 1.0}
    made = min(CONTEXTS_PER_S, cell.sessions / pods["crawler"]) * costs.crawl_context / 1000
    also = {"crawler": heard + made, "gateway": heard}
    busy = {name: (work[name] / pods[name] + also.get(name, 0.0)) / over[name] for name in work}
    return pods, busy, limits
