"""Writes the tables of settings in docs/operations.md from the settings' types; `--check` says whether they are so."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import msgspec

from libs.common.settings import Settings
from libs.common.streams import StreamSettings
from services.crawler.settings import CrawlerSettings
from services.dedup.settings import DedupSettings
from services.gateway.settings import GatewaySettings
from services.transformer.settings import TransformerSettings

DOCUMENT = Path(__file__).parents[1] / "docs" / "operations.md"
BEGIN, END = "<!-- settings: written by scripts/settings.py -->\n", "<!-- end of settings -->\n"
TYPES: dict[str, type[Settings]] = {
    "gateway": GatewaySettings,
    "crawler": CrawlerSettings,
    "transformer": TransformerSettings,
    "dedup": DedupSettings,
    "set-up": StreamSettings,
}


def tables() -> str:
    """One table for each set of services that share settings, the most widely shared first."""
    readers: dict[str, list[str]] = {}
    for service, type_ in TYPES.items():
        for field in msgspec.structs.fields(type_):
            readers.setdefault(_row(field), []).append(service)  # of one name, yet another default: rows of their own
    groups: dict[tuple[str, ...], list[str]] = {}
    for row, services in readers.items():
        groups.setdefault(tuple(services), []).append(row)
    found = []
    for of, rows in sorted(groups.items(), key=lambda group: (-len(group[0]), group[0])):
        title = "All" if len(of) == len(TYPES) else ", ".join(of).capitalize()
        found.append("\n".join([f"### {title}\n", "| variable | default | meaning |", "| --- | --- | --- |", *rows]))
    return "\n\n".join(found) + "\n"


def _row(field: Any) -> str:
    info: Any = msgspec.inspect.type_info(field.type)
    meaning = (getattr(info, "extra_json_schema", None) or {}).get("description")
    if not meaning:
        raise SystemExit(f"settings: {field.name} says nothing of what it means")
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(default, tuple):
        default = ",".join(default)
    shown = "unset" if default in (None, "") else f"`{default}`"
    return f"| `{field.name.upper()}` | {shown} | {meaning.replace('|', '&#124;')} |"


def main(arguments: list[str]) -> int:
    text = DOCUMENT.read_text(encoding="utf-8")
    wanted, count = re.subn(
        f"({re.escape(BEGIN)}).*?({re.escape(END)})", lambda m: f"{m[1]}\n{tables()}\n{m[2]}", text, flags=re.DOTALL
    )
    if count != 1:
        sys.stderr.write(f"settings: {DOCUMENT} has no place for the tables\n")
        return 1
    if wanted == text:
        return 0
    if arguments == ["--check"]:
        sys.stderr.write(f"settings: {DOCUMENT} is out of date; run: .venv/bin/python -m scripts.settings\n")
        return 1
    DOCUMENT.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
