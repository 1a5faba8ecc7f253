"""The Dockerfile, read as far as this project's goes: its stages, and what an image made from one is like."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import msgspec

from libs.common.settings import Settings
from services.crawler.settings import CrawlerSettings
from services.dedup.settings import DedupSettings
from services.gateway.settings import GatewaySettings
from services.transformer.settings import TransformerSettings

ROOT = Path(__file__).parents[3]
SETTINGS: dict[str, type[Settings]] = {
    "gateway": GatewaySettings,
    "crawler": CrawlerSettings,
    "transformer": TransformerSettings,
    "dedup": DedupSettings,
}


class Image(msgspec.Struct):
    """What a stage gives, that of its parents included."""

    environ: dict[str, str] = {}
    ports: list[int] = []
    user: str = "root"
    entrypoint: list[str] = []
    health: list[str] = []
    taken: list[tuple[list[str], str | None]] = []  # paths, and the stage that they are taken from


def instructions() -> list[tuple[str, str]]:
    """Every instruction with its arguments, comments left out and lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def base() -> str:
    """The image that all stand on."""
    return next(rest.removeprefix("BASE=") for name, rest in instructions() if name == "ARG")


def images() -> dict[str, Image]:
    """By target."""
    found: dict[str, Image] = {}
    for name, rest in instructions():
        if name == "FROM":
            parent, _, target = rest.partition(" AS ")
            image = found[target] = msgspec.json.decode(msgspec.json.encode(found.get(parent, Image())), type=Image)
        elif name == "ENV":
            image.environ |= dict(word.split("=", 1) for word in shlex.split(rest))
        elif name == "EXPOSE":
            image.ports.append(int(rest))
        elif name == "USER":
            image.user = rest
        elif name == "ENTRYPOINT":
            image.entrypoint = json.loads(rest)
        elif name == "HEALTHCHECK":
            image.health = json.loads(rest.partition(" CMD ")[2])
        elif name == "COPY":
            *paths, _to = rest.split()
            stage = paths.pop(0).removeprefix("--from=") if paths[0].startswith("--from=") else None
            image.taken.append((paths, stage))
    return found
