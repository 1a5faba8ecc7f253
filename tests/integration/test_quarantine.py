"""Suspects in a process that really dies of them, moved there by pull loops on a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator

import psutil
import pytest

from libs.common import subjects
from libs.common.bus import Bus
from libs.common.dead_letters import Letter, NotReplayable, bury, drop, letter, letters, replay
from libs.common.delivery import Delivery
from libs.common.handling import SUSPECT_FROM, Handling
from libs.common.pull import PullLoop, suspects_loop
from libs.common.quarantine import MAX_FAILURES, Quarantine, quarantine
from libs.common.settings import Settings
from tests.wait import wait_until

CHILD = "tests.integration.suspects_child"
LIMIT_S = 2.0


class Lane:
    """The transformer's quarantine with the child above; `gave_up` says which items failed for good, and why."""

    def __init__(self, bus: Bus, session: str) -> None:
        self.bus, self.session = bus, session
        self.gave_up: dict[str, str] = {}
        self.quarantine: Quarantine | None = None

    async def give_up(self, delivery: Delivery, why: str) -> None:
        """Notes it."""
        self.gave_up[delivery.subject] = why

    async def add(self, item: str, body: bytes, **headers: str) -> str:
        """Puts a suspect there; returns its own subject."""
        subject = subjects.raw(self.session, item)
        await self.bus.publish(subjects.suspect(subjects.TRANSFORMER, subject), body, headers=headers, create=True)
        return subject

    async def pending(self) -> int:
        """How many suspects of the session are left."""
        patterns = subjects.suspects_of(self.session)
        return sum([len((await self.bus.subjects_under(subjects.QUARANTINE, one))[0]) for one in patterns])

    async def empty(self) -> None:
        """Returns when none is left."""
        async with asyncio.timeout(60):
            while await self.pending():
                await self.bus.client.flush()

    def children(self) -> list[psutil.Process]:
        """The processes for suspects that run now."""
        mine = psutil.Process().children(recursive=True)
        return [one for one in mine if one.is_running() and CHILD in " ".join(one.cmdline())]


@pytest.fixture
async def lane(bus: Bus, session: str) -> AsyncIterator[Lane]:
    lane = Lane(bus, session)
    parts = (bus, subjects.TRANSFORMER, subjects.RAW_TEMPLATE, lane.give_up)
    stop = asyncio.Event()
    async with quarantine(*parts, CHILD, Settings(), LIMIT_S) as lane.quarantine:
        running = asyncio.create_task(suspects_loop(bus, subjects.TRANSFORMER, lane.quarantine, 4).run(stop, 2.0))
        yield lane
        stop.set()
        await running
    assert lane.children() == []


async def letters_of(bus: Bus, session: str) -> dict[str, Letter]:
    return {one.subject: one async for one in letters(bus) if one.session == session}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"kill", "its process ended by SIGKILL"),
        (b"exit", "its process ended with exit code 7"),
        (b"hang", "it was not done within 2 s"),
        (b"raise", "RuntimeError: as it was told"),
        (b"malformed", "as it was told"),
    ],
)
async def test_what_ends_its_process_is_given_up_and_kept_and_its_neighbours_go_on(
    lane: Lane, body: bytes, why: str
) -> None:
    innocents = [await lane.add(f"before-{n}", b"fine") for n in range(3)]
    killer = await lane.add("killer", body, traceparent="00-abc", **{"Original-Nats-Expected-Last-Sequence": "7"})
    innocents += [await lane.add(f"after-{n}", b"fine") for n in range(3)]
    await lane.empty()
    assert lane.gave_up == {killer: why}
    kept = await letters_of(lane.bus, lane.session)
    assert list(kept) == [killer]
    one = kept[killer]
    assert (one.stage, one.reason, one.body) == (subjects.TRANSFORMER, why, body)
    assert one.headers["traceparent"] == "00-abc"
    assert one.headers["Nats-Expected-Last-Sequence"] == "7"


async def test_trouble_of_the_broker_is_not_counted_against_a_suspect(lane: Lane) -> None:
    await lane.add("unlucky", b"trouble")
    assert lane.quarantine is not None
    handled = lane.quarantine.handling
    tries = 0
    inner = handled.handler

    async def counted(delivery: Delivery) -> None:
        nonlocal tries
        tries += 1
        await inner(delivery if tries <= MAX_FAILURES + 1 else delivery._replace(body=b"fine"))

    handled.handler = counted
    await lane.empty()
    assert tries == MAX_FAILURES + 2
    assert lane.gave_up == {}


async def test_the_process_for_suspects_is_not_dismissed_while_one_is_handled(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.common.quarantine.IDLE_S", 0.2)
    for n in range(4):
        await lane.add(f"quick-{n}", b"fine")
    await lane.add("long", b"long 1.5")
    await lane.empty()
    assert lane.gave_up == {}
    assert lane.quarantine is not None
    assert lane.quarantine.handling._failures == {}
    await wait_until(lambda: lane.children() == [], "it is ended when it has nothing to do")
    await lane.add("later", b"fine")
    await lane.empty()


async def test_the_process_for_suspects_dies_with_its_parent(lane: Lane) -> None:
    await lane.add("one", b"fine")
    await lane.empty()
    (child,) = lane.children()
    assert lane.quarantine is not None
    await lane.quarantine.close()
    await wait_until(lambda: not child.is_running(), "the child has ended")


async def test_a_message_delivered_three_times_is_moved_with_its_headers(bus: Bus, session: str) -> None:
    handled: list[int] = []

    async def handler(delivery: Delivery) -> None:
        handled.append(delivery.delivered)
        raise RuntimeError("fails")

    async def gave_up(_delivery: Delivery, why: str) -> None:
        raise AssertionError(why)

    name = f"Q{session[:8]}"
    stream = {"name": name, "subjects": [f"{name}.*"], "retention": "workqueue", "storage": "memory"}
    await bus.api(f"STREAM.CREATE.{name}", stream)
    durable = {"durable_name": "worker", "name": "worker", "ack_policy": "explicit"}
    await bus.api(f"CONSUMER.CREATE.{name}.worker", {"stream_name": name, "config": durable})
    stage = subjects.DEDUP
    handling = Handling(bus, stage, "t", handler, gave_up, suspect_from=SUSPECT_FROM)
    stop = asyncio.Event()
    running = asyncio.create_task(PullLoop(bus, name, "worker", handling, slots=2).run(stop, 1.0))
    try:
        await bus.publish(f"{name}.m", b"body", headers={"traceparent": "kept", "Nats-Msg-Id": "one"})
        moved = None
        async with asyncio.timeout(20):
            while moved is None:
                moved = await bus.last(subjects.QUARANTINE, subjects.suspect(stage, f"{name}.m"))
        assert handled == [1, 2]
        assert moved.body == b"body"
        async with asyncio.timeout(20):
            while (await bus.api(f"STREAM.INFO.{name}"))["state"]["messages"]:
                await bus.client.flush()
    finally:
        stop.set()
        await running
        await bus.api(f"STREAM.DELETE.{name}")
        await bus.purge(subjects.QUARANTINE, subjects.suspect(stage, f"{name}.m"))


async def test_letters_are_shown_replayed_and_dropped_by_the_command(lane: Lane, nats_url: str) -> None:
    bus, session = lane.bus, lane.session
    bad, worse = subjects.raw(session, "1-0"), subjects.raw(session, "2-0")
    await bury(bus, subjects.TRANSFORMER, bad, b"fine", {"traceparent": "00-abc"}, "no reason\nat all")
    await bury(bus, subjects.TRANSFORMER, worse, b"raise \xff", {}, "x")
    await bury(bus, subjects.DEADLINES, subjects.record(session, subjects.REQUEST), b"", {}, "x")

    async def pinstream(*arguments: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "libs.client.cli", "dead-letters", *arguments]
        environ = {**os.environ, "NATS_URL": nats_url}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=environ)
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(errors="replace"), err.decode()

    code, out, _ = await pinstream("list", "--session", session, "--format", "jsonl")
    listed = [json.loads(line) for line in out.splitlines()]
    assert (code, [one["subject"] for one in listed[:2]]) == (0, [bad, worse])
    assert listed[0]["reason"] == "no reason at all"
    first, second = listed[0]["number"], listed[1]["number"]
    code, out, _ = await pinstream("show", str(first))
    assert code == 0
    assert "header     traceparent: 00-abc" in out and "body       fine" in out
    code, out, _ = await pinstream("replay", str(first))
    assert (code, out) == (0, f"letter {first} is handled again: {bad}\n")
    await lane.empty()
    assert lane.gave_up == {}
    await pinstream("replay", str(second))
    await lane.empty()
    assert list(lane.gave_up) == [worse]
    kept = await letters_of(bus, session)
    assert set(kept) == {worse, subjects.record(session, subjects.REQUEST)}
    assert kept[worse].body == b"raise \xff"
    code, _, err = await pinstream("replay", "--all", "--session", session, "--stage", "deadlines")
    assert (code, "come again by themselves" in err) == (1, True)
    await bury(bus, subjects.DEDUP, bad, b"", {}, "no [/room] left")
    code, out, err = await pinstream("list", "--session", session, "--format", "table")
    assert (code, err, "[/room]" in out) == (0, "", True)
    code, _, err = await pinstream("drop", "--all", "--session", session)
    assert (code, await letters_of(bus, session)) == (0, {})
    code, _, err = await pinstream("show", str(second))
    assert (code, err) == (1, f"pinstream: there is no letter {second}\n")
    code, _, err = await pinstream("drop")
    assert (code, err) == (2, "pinstream: name letters by number, or say --all\n")


async def test_a_letter_whose_body_was_not_kept_whole_is_not_replayed(bus: Bus, session: str) -> None:
    await bury(bus, subjects.DEDUP, subjects.direct(session, "1-0"), b"x" * bus.client.max_payload, {}, "too large")
    (one,) = (await letters_of(bus, session)).values()
    assert one.size == bus.client.max_payload > len(one.body)
    with pytest.raises(NotReplayable, match="were kept"):
        await replay(bus, one)
    assert await letter(bus, one.number) is not None
    assert await drop(bus, one.number)
    assert not await drop(bus, one.number)
