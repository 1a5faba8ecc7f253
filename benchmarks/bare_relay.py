"""Four hops of nats-py with the pipeline's streams and no work: what there is to compare the pipeline with.

`python -m benchmarks.bare_relay ROLE`, each role a process as a service is: `emitter` publishes a corpus, one message
after the other for each session, `raw` and `direct` pass on what comes, `frames` sends each record to a WebSocket. No
telemetry, no claim, no fence, no log of a session, no answer but `ack`; a message that is lost is lost.

`plain` is what nats-py's documentation shows: asyncio, `fetch`, one message after the other. `moved` is what can be got
out of it: uvloop, and all of a batch published at once.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import nats
import uvloop
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy
from websockets.asyncio.server import ServerConnection, serve

from benchmarks.emitter import EMITTED, Corpus
from libs.common import subjects
from libs.common.messages import encode
from libs.common.process import die_with_parent
from tests.emitted import distinct_media

BATCH = 256
EXPIRES_NS = 3600 * 10**9
READY, BEGIN = "bench.ready", "bench.begin"  # core NATS: a role is there; a session is to be emitted

To = Callable[[str, str], str]


async def plain(js: JetStreamContext, stream: str, durable: str, to: To) -> None:
    """Passes on what comes in `stream`."""
    subscription = await js.pull_subscribe_bind(durable, stream)
    while True:
        with suppress(TimeoutError):
            for message in await subscription.fetch(BATCH, timeout=1):
                await pass_on(js, message, to)


async def moved(js: JetStreamContext, stream: str, durable: str, to: To) -> None:
    """Likewise; a request is always with the broker, and all that has come is on its way at once."""
    client, running = js._nc, set[asyncio.Task[None]]()
    inbox = client.new_inbox()
    asked = 0

    async def ask() -> None:
        nonlocal asked
        body = {"batch": BATCH - asked, "expires": EXPIRES_NS}
        asked = BATCH
        await client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}", json.dumps(body).encode(), reply=inbox)

    async def received(message: Msg) -> None:
        nonlocal asked
        if not message.reply:  # a request has ended
            asked = 0
            return await ask()
        asked -= 1
        task = asyncio.create_task(pass_on(js, message, to))
        running.add(task)
        task.add_done_callback(running.discard)
        if asked <= BATCH // 2:
            await ask()

    await client.subscribe(inbox, cb=received)
    await ask()
    await asyncio.Future()


async def pass_on(js: JetStreamContext, message: Msg, to: To) -> None:
    """One message."""
    _, _, session, item = message.subject.split(".")
    await js.publish(to(session, item), message.data)
    await message.ack()


async def emit(js: JetStreamContext, site: str, folder: Path, session: str, corpus: Corpus) -> None:
    """One session's media, one after the other."""
    emitted: dict[str, float] = {}
    media = await asyncio.to_thread(distinct_media, corpus.seed, corpus.videos, site)
    due = time.monotonic()
    for start in range(0, len(media), corpus.page):
        await asyncio.sleep(due - time.monotonic())
        due += corpus.every_s
        for one in media[start : start + corpus.page]:
            body = encode(msgspec.structs.replace(one, session=session))
            emitted[one.signature] = time.monotonic()
            await js.publish(subjects.raw(session, one.item), body)
    (folder / f"{session}.part").write_text(json.dumps(emitted))
    (folder / f"{session}.part").rename(folder / f"{session}{EMITTED}")


async def frames(js: JetStreamContext, port: int, ready: Callable[[], Awaitable[None]]) -> None:
    """Each record of a session to who has named it."""
    clients: dict[str, ServerConnection] = {}

    async def told(message: Msg) -> None:
        client = clients.get(message.subject.split(".")[2])
        if client is not None:
            await client.send(message.data.decode())

    async def serve_one(client: ServerConnection) -> None:
        async for session in client:
            clients[str(session)] = client
            await client.send("accepted")

    config = ConsumerConfig(deliver_policy=DeliverPolicy.NEW)
    await js.subscribe(subjects.ALL_RECORDS, ordered_consumer=True, cb=told, config=config, pending_msgs_limit=10**6)
    async with serve(serve_one, "127.0.0.1", port, compression=None, ping_interval=None):
        await ready()
        await asyncio.Future()


async def run(role: str, url: str, form: str, options: dict[str, Any]) -> None:
    """One role."""
    client = await nats.connect(url)
    js = client.jetstream()

    async def ready() -> None:
        await client.publish(f"{READY}.{role}")

    def record(session: str, item: str) -> str:
        return subjects.record(session, subjects.VIDEO, item)

    if role == "frames":
        await frames(js, options["port"], ready)
    if role == "emitter":
        running: set[asyncio.Task[None]] = set()

        async def begin(message: Msg) -> None:
            asked = json.loads(message.data)
            work = emit(js, options["site"], Path(options["folder"]), asked["session"], Corpus.of(asked["query"]))
            running.add(asyncio.create_task(work))

        await client.subscribe(BEGIN, cb=begin)
        await ready()
        await asyncio.Future()
    await ready()
    relay = moved if form == "moved" else plain
    if role == "raw":
        await relay(js, subjects.RAW, subjects.TRANSFORMER, subjects.direct)
    await relay(js, subjects.DIRECT, subjects.DEDUP, record)


def main() -> None:
    """ROLE, address of the broker, `plain` or `moved`, options as JSON."""
    die_with_parent()
    role, url, form, options = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
    work = run(role, url, form, options)
    if form == "moved":
        uvloop.run(work)
    else:
        asyncio.run(work)


if __name__ == "__main__":
    main()
