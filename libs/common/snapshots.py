"""Streams saved into files, messages and durables as they are, and made again from them.

A folder a stream, `backup.json` and `stream.tar.s2`, as the `nats` command's `stream backup` has it; either reads what
the other wrote.
"""

from __future__ import annotations

import asyncio
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
    """What is known of a saved stream: its configuration, and its state when it was saved."""

    config: dict[str, Any]
    state: dict[str, Any]
    type: str = "io.nats.jetstream.api.v1.stream_snapshot_response"

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
                file.write(part.data)
                if part.reply:
                    await bus.tell(part.reply)
    finally:
        await subscription.unsubscribe()
    snapshot = Snapshot(answer["config"], answer["state"])
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


async def restore(bus: Bus, folder: Path) -> Snapshot:
    """Makes a stream again, which must not exist; what has grown too old for it goes at once.

    Raises SnapshotFailed or ApiRefused.
    """
    snapshot = read(folder)
    name = snapshot.config["name"]
    request = {"config": snapshot.config, "state": snapshot.state}
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
