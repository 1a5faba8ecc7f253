"""Brokers as deploy/nats has them: each user with its key, and no more rights than it needs."""

from __future__ import annotations

import shutil
from pathlib import Path

from libs.client.broker import Broker
from libs.common import broker_keys

FILES = Path(__file__).parents[1] / "deploy" / "nats"
SERVICES = ("gateway", "crawler", "transformer", "dedup")
USERS = ("streams", *SERVICES)
MOUNTED = "/etc/nats/tls"  # where the committed files expect certificates
ANY_MONITORING = 'http: "127.0.0.1:-1"\n'  # in place of the usual port, which another test may have


def guard(store: Path, keys: Path, routes: tuple[str, ...] = ()) -> None:
    """Lays the committed files and the servers' keys into `store`; makes the keys where there are none."""
    broker_keys.make(keys, routes)
    store.mkdir(exist_ok=True)
    for file in FILES.glob("*.conf"):
        shutil.copy(file, store)
    (store / "keys").symlink_to((keys / broker_keys.SERVER).absolute())


def with_certificates(store: Path, folder: Path) -> None:
    """Has the files in `store` read tls.crt, tls.key and ca.crt of `folder`."""
    for file in store.glob("*-tls.conf"):
        file.write_text(file.read_text().replace(MOUNTED, str(folder)))


def guarded_broker(folder: Path, *, more: str = "", file: str = "server.conf", binary: Path | None = None) -> Broker:
    """One that is not started yet; its keys are in `folder`/keys."""
    store = folder / "broker"
    guard(store, folder / "keys")
    return Broker(store, config=f'include "{file}"\n{ANY_MONITORING}{more}', binary=binary)


def key(folder: Path, user: str) -> str:
    """NATS_NKEY_FILE of a user."""
    return str(broker_keys.seed_file(folder / "keys", user))
