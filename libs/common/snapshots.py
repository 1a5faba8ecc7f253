"""Streams saved into files, messages and durables as they are, and made again from them.

A folder a stream, `backup.json` and `stream.tar.s2`, as the `nats` command's `stream backup` has it; either reads what
the other wrote.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import msgspec

from libs.common.bus import Bus
from libs.common.errors import PinstreamError

FACTS, MESSAGES = "backup.json", "stream.tar.s2"
CHUNK_BYTES = 128 * 1024
PATIENCE_S = 30.0  # for the next part, either way


class SnapshotFailed(PinstreamError):
    """A stream could not be saved, or not be made again."""


class Snapshot(msgspec.Struct):
    """What is known of a saved stream: its configuration, its state when it was saved, and how its messages' file was.

    Of that the `nats` command and older versions say nothing.
    """

    config: dict[str, Any]
    state: dict[str, Any]
    type: str = "io.nats.jetstream.api.v1.stream_snapshot_response"
    size_bytes: int | None = None
    sha256: str | None = None

    @property
    def messages(self) -> int:
        """How many it held."""
        return int(self.state["messages"])


async def save(bus: Bus, stream: str, folder: Path) -> Snapshot:
    """Saves a stream into `folder`, which must not hold one yet. Raises SnapshotFailed, StreamMissing, ApiRefused."""
    _make_room(folder)
    inbox = bus.new_inbox()
    parts: asyncio.Queue[Any] = asyncio.Queue()
    subscription = await bus.subscribe(inbox, parts.put)
    try:
        request = {"deliver_subject": inbox, "chunk_size": CHUNK_BYTES, "no_consumers": False, "jsck": False}
        answer = await bus.api(f"STREAM.SNAPSHOT.{stream}", request)
        size, digest = 0, hashlib.sha256()
        with (folder / MESSAGES).open("wb") as file:
            while True:
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        part = await parts.get()
                except TimeoutError as error:
                    raise SnapshotFailed(f"{stream}: the broker sent nothing more for {PATIENCE_S:g} s") from error
                status = (part.headers or {}).get("Status")
                if status not in (None, "204"):
                    raise SnapshotFailed(f"{stream}: {status} {(part.headers or {}).get('Description', '')}".rstrip())
                if not part.data:
                    break
                size += file.write(part.data)
                digest.update(part.data)
                if part.reply:
                    await bus.tell(part.reply)
    finally:
        await subscription.unsubscribe()
    snapshot = Snapshot(answer["config"], answer["state"], size_bytes=size, sha256=digest.hexdigest())
    (folder / FACTS).write_bytes(msgspec.json.format(msgspec.json.encode(snapshot)))  # last: now it is one
    return snapshot


def _make_room(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / FACTS).exists():
        raise SnapshotFailed(f"{folder} holds a backup already")


def read(folder: Path) -> Snapshot:
    """The facts of a saved stream; raises SnapshotFailed, naming the file."""
    try:
        return msgspec.json.decode((folder / FACTS).read_bytes(), type=Snapshot)
    except (OSError, msgspec.DecodeError) as error:
        raise SnapshotFailed(f"{folder / FACTS}: {error}") from error


def check(folder: Path) -> Snapshot:
    """The same, of one whose messages' file is as it was saved, where that is known; raises SnapshotFailed, too."""
    snapshot, path = read(folder), folder / MESSAGES
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if snapshot.size_bytes not in (None, size):
                raise SnapshotFailed(f"{path} has {size} bytes of {snapshot.size_bytes}")
            if snapshot.sha256 not in (None, hashlib.file_digest(file, "sha256").hexdigest()):
                raise SnapshotFailed(f"{path} is not as it was saved: its SHA-256 is another")
    except OSError as error:
        raise SnapshotFailed(f"{path}: {error.strerror}") from error
    return snapshot


async def restore(bus: Bus, folder: Path, replicas: int) -> Snapshot:
    """Makes a stream again, which must not exist, in so many copies; what has grown too old for it goes at once.

    Not first in one copy and then in more: what servers of 2.14 copy of a stream just restored may lack its messages.
    Raises SnapshotFailed or ApiRefused.
    """
    snapshot = read(folder)
    name = snapshot.config["name"]
    request = {"config": {**snapshot.config, "num_replicas": replicas}, "state": snapshot.state}
    where = (await bus.api(f"STREAM.RESTORE.{name}", request))["deliver_subject"]
    with (folder / MESSAGES).open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            answer = await bus.ask(where, chunk, PATIENCE_S)
            if answer.startswith(b"-ERR") or b'"error"' in answer:
                raise SnapshotFailed(f"{name}: {answer.decode(errors='replace')}")
    answered = msgspec.json.decode(await bus.ask(where, b"", PATIENCE_S))
    if "error" in answered:
        raise SnapshotFailed(f"{name}: {answered['error'].get('description')}")
    return Snapshot(answered["config"], answered["state"])
