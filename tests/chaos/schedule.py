"""The faults of a run: what happens when, made before it begins, the same for the same options.

Kills come in storms with calms between them. A seed replays the schedule of faults and what each session asks for. It
does not replay how long processes take, which session a killed replica was at, how messages interleave, or the order in
which a crawl meets pins.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import msgspec

from libs.common import subjects
from libs.common.streams import ACK_WAIT_S, consumers
from tests.chaos.options import SERVICES, ChaosOptions

STREAMS = (subjects.SEARCHES, subjects.RAW, subjects.DIRECT, subjects.RESULTS)
OUTAGE_S = 30.0
EVERY_S = {  # on average; `kill` has a rate of its own
    "stall": 14.0,
    "terminate": 9.0,
    "broker": 25.0,
    "leader": 20.0,
    "cut": 6.0,
    "slow": 15.0,
    "copies": 20.0,
    "consumer": 25.0,
}
LASTS_S = {
    "stall": (ACK_WAIT_S + 1, ACK_WAIT_S + 5),
    "broker": (0.0, 3.0),
    "leader": (0.5, 4.0),
    "cut": (2.0, 14.0),
    "slow": (3.0, 10.0),
    "copies": (5.0, 15.0),
}
STORM_S, CALM_S = 15.0, 15.0
CALM_SHARE = 0.1  # of the kills of a storm: something must come to its end between two
ONE_REPLICA = ("kill", "stall", "terminate", "cut")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What is done `at_s` seconds after the beginning, and undone `lasts_s` later where it can be."""

    at_s: float
    kind: str
    target: str = ""  # a replica such as `crawler-1`, a stream, or `<stream>.<consumer>`
    lasts_s: float = 0.0
    hole: bool = False  # of a cut: nothing flows, instead of resets

    @property
    def until_s(self) -> float:
        """When it is over."""
        return self.at_s + self.lasts_s


def schedule(options: ChaosOptions) -> list[Fault]:
    """All faults, in order."""
    made: list[Fault] = []
    if "outage" not in options.without:
        made += _outages(options)
    for kind in ("stall", "cut", "terminate", "broker", "leader", "slow", "copies", "consumer", "kill"):
        if kind in options.without or (kind == ("broker" if options.cluster else "leader")):
            continue
        rng = Random(f"{options.seed} {kind}")
        every_s = 1 / options.kills_per_second if kind == "kill" else EVERY_S[kind]
        for at_s in _moments(rng, every_s, options.seconds):
            calm = at_s % (STORM_S + CALM_S) > STORM_S
            if kind == "kill" and calm and rng.random() > CALM_SHARE:
                continue
            fault = _fault(kind, at_s, rng, options)
            if not any(_disturbs(fault, other) for other in made):
                made.append(fault)
    return sorted(made, key=lambda fault: fault.at_s)


def _moments(rng: Random, every_s: float, end_s: float) -> Iterator[float]:
    at_s = rng.expovariate(1 / every_s)
    while at_s < end_s:
        yield round(at_s, 3)
        at_s += rng.expovariate(1 / every_s)


def _outages(options: ChaosOptions) -> list[Fault]:
    """One in two minutes, the first of 30 s where there is time for it."""
    rng = Random(f"{options.seed} outage")
    found = []
    for n in range(max(1, int(options.minutes / 2))):
        lasts_s = min(OUTAGE_S if n == 0 else rng.uniform(5, OUTAGE_S), options.seconds / 5)
        at_s = min(n * 120 + rng.uniform(0.2, 0.5) * min(120, options.seconds), options.seconds - lasts_s)
        found.append(Fault(at_s=round(at_s, 3), kind="outage", lasts_s=round(lasts_s, 3), hole=rng.random() < 0.5))
    return found


def _fault(kind: str, at_s: float, rng: Random, options: ChaosOptions) -> Fault:
    replicas = options.replicas
    lasts_s = rng.uniform(*LASTS_S[kind]) if kind in LASTS_S else 0.0
    lasts_s = round(min(lasts_s, options.seconds - at_s), 3)
    hole = rng.random() < 0.5
    replica = f"{rng.choice(SERVICES)}-{rng.randrange(replicas) + 1}"
    if kind == "stall" and rng.random() < 0.4:  # it is the crawler that the fence is there for
        replica = f"crawler-{rng.randrange(replicas) + 1}"
    target = ""
    if kind in ONE_REPLICA:
        target = replica
    elif kind == "slow":
        target = rng.choice((replica, "all"))
    elif kind == "leader":
        target = rng.choice(STREAMS)
    elif kind == "consumer":
        stream, config = rng.choice(consumers())
        target = f"{stream}.{config['name']}"
    return Fault(at_s=at_s, kind=kind, target=target, lasts_s=lasts_s, hole=hole)


def _disturbs(fault: Fault, other: Fault) -> bool:
    """Whether one would end or hide the other."""
    if fault.at_s > other.until_s or other.at_s > fault.until_s:
        return False
    kinds = {fault.kind, other.kind}
    if fault.kind == other.kind:
        return fault.target == other.target and fault.kind != "kill"
    if kinds <= {"cut", "outage"}:
        return True
    return "stall" in kinds and bool(kinds & {"kill", "terminate"}) and fault.target == other.target
