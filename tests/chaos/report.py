"""What a run came to, as tables, and where the sessions hang that did not end well."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from libs.common import subjects
from libs.common.bus import Bus
from libs.common.errors import PinstreamError
from libs.common.streams import consumers
from tests.chaos.ledger import CLASSES, Account, Ledger
from tests.chaos.options import ChaosOptions

MOST_SHOWN = 12


@dataclass
class Report:
    """Of a run; `failures` is empty where nothing is wrong."""

    options: ChaosOptions
    ledger: Ledger
    injected: Counter[str]
    missed: Counter[str]
    copies: Counter[str]
    exits: dict[str, Counter[int]]  # by service
    begun: int
    refusals: int
    connections: int
    settled_s: float
    slowest_s: float
    not_ready: list[str]
    folder: Path
    hanging: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def failures(self) -> list[str]:
        """Every reason to fail."""
        found = [
            f"session {one.session.session_id} ({one.session.wish.query!r}, limit {one.session.wish.limit}, "
            f"{one.session.wish.kind}): {'; '.join(one.faults)}"
            for one in self.ledger.wrong
        ]
        found += [f"{name} is not ready" for name in self.not_ready]
        broken = sum(many for ends in self.exits.values() for code, many in ends.items() if code in (1, 70))
        return found + ([f"services ended {broken} times by an error of their own"] if broken else [])

    def text(self) -> str:
        """All of it."""
        parts = [self._faults(), self._sessions(), self._things(), self._errors(), *self._failures()]
        return "\n\n".join(part for part in parts if part)

    def _faults(self) -> str:
        lines = ["fault                                   injected"]
        for what in sorted(self.injected | self.missed):
            missed = f"  ({self.missed[what]} found nobody)" if self.missed[what] else ""
            lines.append(f"{what:<40}{self.injected[what]:>8}{missed}")
        lines += [f"{f'message copied, {what}':<40}{many:>8}" for what, many in sorted(self.copies.items())]
        return "\n".join(lines)

    def _sessions(self) -> str:
        once = sum(len(one.session.completed) == 1 for one in self.ledger.accounts)
        rows = [
            ("sessions asked for", self.begun),
            ("accepted", len(self.ledger.accounts)),
            ("completed once", once),
            ("with something wrong", len(self.ledger.wrong)),
            ("begun unheard by their client", self.ledger.orphans),
            ("  of them open to their deadline", self.ledger.open_orphans),
            ("connections made", self.connections),
            ("told to come back", self.refusals),
        ]
        lines = [f"{what:<40}{many:>8}" for what, many in rows]
        lines.append(f"{'at rest after the last fault':<40}{self.settled_s:>8.1f} s of {self.options.settle_s:g} s")
        lines.append(f"{'the slowest session':<40}{self.slowest_s:>8.1f} s")
        return "\n".join(lines)

    def _things(self) -> str:
        lines = [f"{'':<16}" + "".join(f"{class_:>16}" for class_ in CLASSES)]
        for what in ("videos", "items"):
            totals = self.ledger.totals(what)
            lines.append(f"{what:<16}" + "".join(f"{totals[class_]:>16}" for class_ in CLASSES))
        lines.append(f"videos not verified: {self.ledger.unverified}")
        return "\n".join(lines)

    def _errors(self) -> str:
        lines = [
            f"{service:<16}" + ", ".join(f"{code}: {many}" for code, many in sorted(ends.items()))
            for service, ends in self.exits.items()
        ]
        text = "exit codes\n" + "\n".join(lines)
        if self.errors:
            text += "\n\nerrors in the logs\n"
            text += "\n".join(f"{many:>6}  {what}" for what, many in self.errors.most_common(MOST_SHOWN))
        return text

    def _failures(self) -> list[str]:
        failures = self.failures
        replay = f"seed {self.options.seed}; again by: {self.options.command}"
        if not failures:
            return [f"nothing lost, nothing twice\n{replay}"]
        shown = failures[:MOST_SHOWN] + ([f"and {len(failures) - MOST_SHOWN} more"] * (len(failures) > MOST_SHOWN))
        return ["FAILED", "\n".join(shown), "\n".join(self.hanging), f"logs: {self.folder}\n{replay}"]


async def whereabouts(bus: Bus, wrong: list[Account]) -> list[str]:
    """For the sessions with something wrong: their records, and what of theirs still lies in a stream."""
    lines = []
    for account in wrong[:MOST_SHOWN]:
        session = account.session.session_id
        if session is None:
            continue
        lying = []
        for stream, pattern in (
            (subjects.SEARCHES, subjects.search(session)),
            (subjects.RAW, subjects.raw_of(session)),
            (subjects.RAW, subjects.leases_of(session)),
            (subjects.DIRECT, subjects.direct_of(session)),
            *((subjects.QUARANTINE, pattern) for pattern in subjects.suspects_of(session)),
        ):
            found, _ = await bus.subjects_under(stream, pattern)
            lying.append(f"{len(found)} under {pattern.replace(session, '…')}")
        records = ", ".join(f"{many} {kind}" for kind, many in sorted(account.records.items()))
        missing = ", ".join(account.missing[:6])
        lines.append(f"{session}\n    records: {records}\n    streams: {', '.join(lying)}\n    missing: {missing}")
    for stream, config in consumers():
        try:
            info = await bus.api(f"CONSUMER.INFO.{stream}.{config['name']}")
        except PinstreamError as error:
            lines.append(f"{stream} {config['name']}: {error}")
            continue
        keys = ("num_pending", "num_ack_pending", "num_redelivered", "num_waiting")
        lines.append(f"{stream} {config['name']}: " + ", ".join(f"{key} {info.get(key)}" for key in keys))
    return lines


def errors_in(folder: Path) -> Counter[str]:
    """Log lines of the level `error` and tracebacks, by service and words."""
    found: Counter[str] = Counter()
    for log in sorted(folder.glob("*-*.log")):
        service = log.name.split("-")[0]
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                try:
                    said = json.loads(line)
                except ValueError:
                    continue
                if said.get("level") in ("error", "critical"):
                    found[f"{service}: {said.get('event')} {str(said.get('error') or said.get('why') or '')[:80]}"] += 1
            elif line.startswith("Traceback"):
                found[f"{service}: a traceback"] += 1
    return found
