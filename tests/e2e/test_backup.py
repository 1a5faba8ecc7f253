"""All that the broker keeps, saved in the middle of a search and given to another broker: the search goes on there."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from libs.client.broker import Broker, running_broker
from libs.client.client import Client
from libs.common import subjects
from libs.common.bus import connect
from libs.common.frames import VideoFrame
from libs.common.messages import Video
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, set_up, streams
from tests.brokers import Cluster
from tests.e2e.answer import assert_right
from tests.e2e.conftest import Stack
from tests.fake_pinterest import expected_results

SEEN = 6


def pinstream(*arguments: str, nats_url: str, more: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "libs.client.cli", *arguments]
    environ = {**os.environ, "NATS_URL": nats_url, **(more or {})}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)


async def test_a_search_goes_on_at_a_broker_that_was_given_the_backup(
    stack_of: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "bowls pins:96 size:8 seed:backup latency:300"
    videos: list[Video] = []
    saved = tmp_path / "saved"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with running_broker(tmp_path / "first") as first:
        monkeypatch.setenv("NATS_URL", first.url)
        stack = await stack_of(guarded=False)
        search = Client(stack.ws_url).search(query, limit=5000)
        frames = search.frames()
        while len(videos) < SEEN:
            frame = await anext(frames)
            if isinstance(frame, VideoFrame):
                videos.append(frame.video)
        key = pinstream("keys", "create", "nightly", nats_url=first.url)
        assert key.returncode == 0, key.stderr
        busy = pinstream("restore", str(tmp_path / "first"), "--replace", nats_url=first.url)
        assert busy.returncode == 1 and "no backup" in busy.stderr
        live = pinstream("backup", str(tmp_path / "live"), nats_url=first.url)
        assert live.returncode == 0 and "note: saved while" in live.stdout, live.stdout + live.stderr
        running = pinstream("restore", str(tmp_path / "live"), "--replace", nats_url=first.url)
        assert running.returncode == 1 and "stop the services first" in running.stderr
        await stack.stop()
        await frames.aclose()  # not before: who leaves a search that runs cancels it
        done = pinstream("backup", str(saved), nats_url=first.url)
        assert done.returncode == 0 and "note" not in done.stdout, done.stdout + done.stderr
        again = pinstream("backup", str(saved), nats_url=first.url)
        assert again.returncode == 1 and "is not empty" in again.stderr
    with running_broker(tmp_path / "second") as second:
        done = pinstream("restore", str(saved), nats_url=second.url)
        assert done.returncode == 0, done.stderr
        over = pinstream("restore", str(saved), nats_url=second.url)
        assert over.returncode == 1 and "--replace" in over.stderr
        over = pinstream("restore", str(saved), "--replace", nats_url=second.url)
        assert over.returncode == 0, over.stderr
        monkeypatch.setenv("NATS_URL", second.url)
        stack = await stack_of(guarded=False)
        assert search.session_id is not None
        rest = Client(stack.ws_url).follow(search.session_id, after=search.sequence)
        videos += [video async for video in rest]
        assert rest.completed is not None and rest.completed.reason == "exhausted"
        assert_right(videos, expected_results(query))
        assert "nightly" in pinstream("keys", "list", nats_url=second.url).stdout


def test_a_backup_that_was_cut_short_is_none(tmp_path: Path) -> None:
    with running_broker(tmp_path) as broker:
        (tmp_path / "saved" / "RAW").mkdir(parents=True)
        (tmp_path / "saved" / "RAW" / "stream.tar.s2").write_bytes(b"half")
        none = pinstream("restore", str(tmp_path / "saved"), nats_url=broker.url)
        assert none.returncode == 1 and "holds no backup" in none.stderr
        (tmp_path / "saved" / "RAW" / "backup.json").write_text('{"config": {"name"')
        half = pinstream("restore", str(tmp_path / "saved"), nats_url=broker.url)
        assert half.returncode == 1 and "backup.json" in half.stderr


@pytest.fixture
async def saved(broker: Broker, tmp_path: Path) -> Path:
    """A backup of a broker that holds a key and nothing else."""
    async with connect(Settings(nats_url=broker.url), "test") as bus:
        await set_up(bus, StreamSettings())
    folder = tmp_path / "saved"
    for arguments in (("keys", "create", "nightly"), ("backup", str(folder))):
        done = await asyncio.to_thread(pinstream, *arguments, nats_url=broker.url)
        assert done.returncode == 0, done.stderr
    return folder


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def spoil(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(whole)


def as_before(folder: Path) -> None:
    """As older versions saved it."""
    for facts in folder.glob("*/backup.json"):
        known = json.loads(facts.read_bytes())
        facts.write_text(json.dumps({name: known[name] for name in ("config", "state", "type")}))


@pytest.mark.parametrize("harm", [cut, spoil, Path.unlink])
async def test_a_backup_with_a_file_that_is_not_whole_deletes_nothing(
    broker: Broker, saved: Path, harm: Callable[[Path], None]
) -> None:
    file = saved / subjects.RESULTS / "stream.tar.s2"
    harm(file)
    done = await asyncio.to_thread(pinstream, "restore", str(saved), "--replace", nats_url=broker.url)
    assert done.returncode == 1 and str(file) in done.stderr, done.stderr
    async with connect(Settings(nats_url=broker.url), "test") as bus:
        for config in streams(StreamSettings()):
            await bus.api(f"STREAM.INFO.{config['name']}")
    listed = await asyncio.to_thread(pinstream, "keys", "list", nats_url=broker.url)
    assert "nightly" in listed.stdout, listed.stderr


async def test_a_backup_that_says_nothing_of_its_files_is_restored(broker: Broker, saved: Path) -> None:
    as_before(saved)
    done = await asyncio.to_thread(pinstream, "restore", str(saved), "--replace", nats_url=broker.url)
    assert done.returncode == 0, done.stderr
    listed = await asyncio.to_thread(pinstream, "keys", "list", nats_url=broker.url)
    assert "nightly" in listed.stdout, listed.stderr


async def test_copies_and_bounds_are_as_they_were_whoever_restores(tmp_path: Path) -> None:
    days = 3 * 86400
    async with Cluster(tmp_path) as cluster, connect(Settings(nats_url=cluster.url), "test") as bus:
        await set_up(bus, StreamSettings(stream_replicas=3, results_max_age_s=days))
        for arguments in (
            ("keys", "create", "nightly"),
            ("backup", str(tmp_path / "saved")),
            ("restore", str(tmp_path / "saved"), "--replace"),
        ):
            done = await asyncio.to_thread(pinstream, *arguments, nats_url=cluster.url)
            assert done.returncode == 0, done.stderr
        for config in streams(StreamSettings()):
            made = (await bus.api(f"STREAM.INFO.{config['name']}"))["config"]
            assert made["num_replicas"] == 3, made["name"]
        assert (await bus.api(f"STREAM.INFO.{subjects.RESULTS}"))["config"]["max_age"] == days * 10**9
        for _ in range(30):  # any of the three answers
            assert await bus.read(subjects.ACCESS, subjects.ALL_ACCESS_KEYS, 1, 10), "a server has an empty copy"
    (tmp_path / "alone").mkdir()
    with running_broker(tmp_path / "alone") as alone:
        refused = await asyncio.to_thread(pinstream, "restore", str(tmp_path / "saved"), nats_url=alone.url)
        assert refused.returncode == 1 and "STREAM_REPLICAS" in refused.stderr, refused.stderr
        one = {"STREAM_REPLICAS": "1"}
        done = await asyncio.to_thread(pinstream, "restore", str(tmp_path / "saved"), nats_url=alone.url, more=one)
        assert done.returncode == 0, done.stderr
        assert "nightly" in (await asyncio.to_thread(pinstream, "keys", "list", nats_url=alone.url)).stdout
