"""Makes the keys of the broker's users: a seed for each, the public ones for the servers; what is there is kept.

`python -m libs.common.broker_keys FOLDER [--routes HOST:PORT,…]`
"""

from __future__ import annotations

import argparse
import re
import secrets
import sys
from pathlib import Path

import nkeys

from libs.common import permissions

SEED_BYTES = 32
SERVER = "server"  # the folder of what servers read
PASSWORD = re.compile(r'routes_password: "([^"]+)"')


def seed_file(folder: Path, user: str) -> Path:
    """Where a user's seed is, in a folder of its own, so that no service can see another's."""
    return folder / user / f"{user}.nk"


def make(folder: Path, routes: tuple[str, ...] = ()) -> list[Path]:
    """Makes what lacks; returns the files that were written. `routes`: the addresses of the servers of a cluster."""
    written: list[Path] = []
    public: dict[str, str] = {}
    for user in (*permissions.users(), permissions.SYSTEM):
        file = seed_file(folder, user)
        if not file.exists():
            _write(
                file, bytes(nkeys.encode_seed(secrets.token_bytes(SEED_BYTES), nkeys.PREFIX_BYTE_USER)).decode(), 0o400
            )
            written.append(file)
        public[user] = nkeys.from_seed(bytearray(file.read_bytes().strip())).public_key.decode()
    server = folder / SERVER
    written += _renew(server / "keys.conf", "".join(f'{user}_key: "{key}"\n' for user, key in public.items()))
    if routes:
        written += _renew(server / "routes.conf", _routes(server / "routes.conf", routes))
    return written


def _routes(file: Path, routes: tuple[str, ...]) -> str:
    found = PASSWORD.search(file.read_text()) if file.exists() else None
    password = found[1] if found else secrets.token_hex(24)
    listed = ", ".join(f'"nats-route://routes:{password}@{address}"' for address in routes)
    return f'routes_password: "{password}"\nroutes: [{listed}]\n'


def _renew(file: Path, text: str) -> list[Path]:
    if file.exists() and file.read_text() == text:
        return []
    _write(file, text, 0o444)  # the server may be of another user; its folder is for it alone
    return [file]


def _write(file: Path, text: str, mode: int) -> None:
    """All of it or nothing, readable to others never before it has its mode."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(text)
    new.chmod(mode)
    new.replace(file)


def main() -> int:
    """The job."""
    parser = argparse.ArgumentParser("python -m libs.common.broker_keys", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--routes", default="", help="servers of a cluster as they reach each other, comma-separated")
    arguments = parser.parse_args()
    routes = tuple(part.strip() for part in arguments.routes.split(",") if part.strip())
    try:
        written = make(arguments.folder, routes)
    except OSError as error:
        sys.stderr.write(f"broker_keys: {error}\n")
        return 1
    sys.stdout.write("".join(f"{file}\n" for file in written) or "all keys are there\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
