"""What a run is told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

SERVICES = ("gateway", "crawler", "transformer", "dedup")
KINDS = (
    "kill",
    "stall",
    "terminate",
    "broker",
    "leader",
    "outage",
    "cut",
    "slow",
    "copies",
    "consumer",
)


class ChaosOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`minutes` of faults and load; then all must come to rest within `settle_s`. The kills are those of a storm."""

    minutes: float = 2.0
    seed: int = 1
    replicas: int = 2
    server: str = "2.15"
    cluster: bool = False
    crawler: Literal["catalogue", "browser"] = "catalogue"
    kills_per_second: float = 3.0
    clients: int = 64
    without: tuple[str, ...] = ()
    settle_s: float = 120.0
    folder: Path | None = None

    @property
    def seconds(self) -> float:
        """How long faults are injected and sessions begun."""
        return self.minutes * 60

    @property
    def command(self) -> str:
        """What replays it."""
        plain = ChaosOptions()
        words = ["scripts/chaos", f"--minutes {self.minutes:g}", f"--seed {self.seed}"]
        for name in ("replicas", "server", "crawler", "kills_per_second", "clients", "settle_s"):
            if (value := getattr(self, name)) != getattr(plain, name):
                words.append(f"--{name.replace('_', '-')} {value}")
        words += ["--cluster"] * self.cluster
        words += [f"--without {kind}" for kind in self.without]
        return " ".join(words)
