"""The manifests as a cluster would get them, and how to walk them."""

from __future__ import annotations

import os
import re
import tempfile
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from scripts.manifests import K8S, Object, rendered

OVERLAYS = ("local", "production", "production-tls")
SERVICES = ("gateway", "crawler", "transformer", "dedup")


@cache
def overlay(name: str) -> tuple[Object, ...]:
    """All objects of an overlay."""
    return tuple(rendered(K8S / "overlays" / name))


@cache
def seccomp(name: str = "seccomp") -> tuple[Object, ...]:
    """Those that put the crawler's profile on the nodes; `overlays/production-seccomp` has them for production."""
    return tuple(rendered(K8S / name))


@cache
def over(text: str) -> tuple[Object, ...]:
    """All objects of a kustomization that is kept beside the overlays."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        beside = os.path.relpath(K8S / "overlays", place)
        (place / "kustomization.yaml").write_text(re.sub(r"(?<![\w./])\.\./", f"{beside}/", text))
        return tuple(rendered(place))


def documented(word: str) -> str:
    """The one example of a kustomization in docs/kubernetes.md that has that word."""
    text = (K8S.parent / "docs" / "kubernetes.md").read_text()
    blocks = [textwrap.dedent(block) for block in re.findall(r"^ *```yaml\n(.*?)```", text, re.DOTALL | re.MULTILINE)]
    [found] = [block for block in blocks if "kind: Kustomization" in block and word in block]
    return found


def of_kind(objects: tuple[Object, ...], *kinds: str) -> dict[str, Object]:
    """By name."""
    return {found["metadata"]["name"]: found for found in objects if found["kind"] in kinds}


def workloads(objects: tuple[Object, ...]) -> dict[str, Object]:
    """What makes pods, by name."""
    return of_kind(objects, "Deployment", "StatefulSet", "DaemonSet", "Job")


def pod(workload: Object) -> dict[str, Any]:
    """The specification of its pods."""
    spec: dict[str, Any] = workload["spec"]["template"]["spec"]
    return spec


def containers(workload: Object) -> Iterator[dict[str, Any]]:
    """Of its pods, initial ones too."""
    yield from pod(workload).get("initContainers", [])
    yield from pod(workload)["containers"]


def environ(objects: tuple[Object, ...], name: str) -> dict[str, str]:
    """The variables that the manifests give the one container of a workload."""
    [container] = containers(workloads(objects)[name])
    maps, found = of_kind(objects, "ConfigMap"), dict[str, str]()
    for source in container.get("envFrom", []):
        found |= maps[source["configMapRef"]["name"]]["data"]
    return found | {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}


def megabytes(quantity: str) -> float:
    """Of 2^20 bytes."""
    units = {"Ki": 2**-10, "Mi": 1, "Gi": 2**10}
    return float(quantity[:-2]) * units[quantity[-2:]]


def cores(quantity: str) -> float:
    """Of a processor."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)
