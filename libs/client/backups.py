"""`pinstream backup` and `pinstream restore`: all that the broker keeps, into a folder and back."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import stamina
import structlog

from libs.common import subjects
from libs.common.bus import Bus, connect
from libs.common.errors import PinstreamError, StreamMissing
from libs.common.exit_codes import EX_FAILED, EX_UNAVAILABLE
from libs.common.refusal import ApiRefused
from libs.common.settings import from_environment
from libs.common.snapshots import FACTS, Snapshot, SnapshotFailed, check, read, restore, save
from libs.common.streams import StreamSettings, as_saved, set_up, streams

QUIET = 50  # what goes wrong is said in a sentence, not in log lines
# Of two copies taken one after the other the later knows more: what is kept last has the outcome of what is kept first.
LAST = subjects.RESULTS
ATTEMPTS = 5
TRIAL = "restore_trial"


def run_backup(folder: Path) -> int:
    """Saves every stream into a folder of its own within `folder`, which must be empty or not exist."""
    if folder.exists() and any(folder.iterdir()):
        return _sorry(f"{folder} is not empty")

    async def work(bus: Bus, settings: StreamSettings) -> int:
        in_use = await _in_use(bus, settings)
        for name in sorted((config["name"] for config in streams(settings)), key=lambda name: name == LAST):
            saved = await save(bus, name, folder / name)
            print(f"{name}: {saved.messages} messages")
        if in_use:
            readers = ", ".join(in_use)
            print(f"note: saved while {readers} read; searches under way may end at their deadline once restored")
        return 0

    return _run(work)


def run_restore(folder: Path, *, replace: bool) -> int:
    """Makes every stream again that `folder` holds; with `replace` those that exist are deleted first."""
    folders = sorted(path.parent for path in folder.glob(f"*/{FACTS}"))
    if not folders:
        return _sorry(f"{folder} holds no backup")

    async def work(bus: Bus, settings: StreamSettings) -> int:
        # all that can be seen to be wrong, before anything goes
        saved = [(await asyncio.to_thread(check, one)).config for one in folders]
        names = [config["name"] for config in saved]
        settings = as_saved(settings, saved, os.environ)
        if in_use := await _in_use(bus, settings):
            return _sorry(f"{', '.join(in_use)} still read; stop the services first")
        there = [name for name in names if await _exists(bus, name)]
        if there and not replace:
            return _sorry(f"{', '.join(there)} exist; --replace deletes them first")
        if unable := await _unable(bus, settings.stream_replicas):
            return _sorry(
                f"{settings.stream_replicas} copies cannot be made here ({unable}); STREAM_REPLICAS= says how many"
            )
        for name in there:
            await bus.api(f"STREAM.DELETE.{name}")
        for one in folders:
            made = await _restored(bus, one, settings.stream_replicas)
            print(f"{made.config['name']}: {made.messages} messages of {read(one).messages}")
        await set_up(bus, settings)  # what an older version saved is brought up to date
        return 0

    return _run(work)


async def _restored(bus: Bus, folder: Path, replicas: int) -> Snapshot:
    """Makes a stream again; three servers that have just deleted one of that name may fail at it at first."""
    name = read(folder).config["name"]
    async for attempt in stamina.retry_context(on=(SnapshotFailed, ApiRefused), attempts=ATTEMPTS, wait_initial=1.0):
        with attempt:
            if attempt.num > 1:
                # what the attempt before has left: also one that waits for its messages, of which nothing is told
                with suppress(StreamMissing, ApiRefused):
                    await bus.api(f"STREAM.DELETE.{name}")
            return await restore(bus, folder, replicas)
    raise AssertionError("the last attempt raises")


async def _unable(bus: Bus, replicas: int) -> str | None:
    """Why a stream of so many copies cannot be made, seen by making one."""
    trial = {"name": TRIAL, "subjects": [TRIAL], "storage": "file", "num_replicas": replicas}
    try:
        await bus.api(f"STREAM.CREATE.{TRIAL}", trial)
    except ApiRefused as error:
        return str(error)
    await bus.api(f"STREAM.DELETE.{TRIAL}")
    return None


async def _exists(bus: Bus, name: str) -> bool:
    try:
        await bus.api(f"STREAM.INFO.{name}")
    except StreamMissing:
        return False
    return True


async def _in_use(bus: Bus, settings: StreamSettings) -> list[str]:
    """The durables that a service reads now: it waits for messages, or has some in hand."""
    found = []
    for config in streams(settings):
        try:
            listed = await bus.api(f"CONSUMER.LIST.{config['name']}", {"offset": 0})
        except StreamMissing:
            continue
        found += [
            one["name"] for one in listed.get("consumers") or [] if one.get("num_waiting") or one.get("push_bound")
        ]
    return sorted(set(found))


def _run(work: Callable[[Bus, StreamSettings], Awaitable[int]]) -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(QUIET))

    async def main() -> int:
        settings = from_environment(StreamSettings, os.environ)
        async with connect(settings, "backup") as bus:
            return await work(bus, settings)

    try:
        return asyncio.run(main())
    except (SnapshotFailed, ApiRefused) as error:
        return _sorry(str(error))
    except PinstreamError as error:
        _sorry(str(error))
        return EX_UNAVAILABLE
    except OSError as error:
        return _sorry(f"{error.filename}: {error.strerror}")


def _sorry(words: str) -> int:
    sys.stderr.write(f"{words}\n")
    return EX_FAILED
