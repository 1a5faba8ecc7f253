"""One run: the system, its load and its faults; then rest, and the account."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from libs.client.broker import Broker
from libs.common.bus import Bus, connect
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, set_up
from libs.common.tasks import end
from tests.brokers import Cluster, binary
from tests.chaos.clients import Clients
from tests.chaos.copies import Copies
from tests.chaos.faults import Faults
from tests.chaos.fleet import Fleet
from tests.chaos.ledger import ledger, whole_log
from tests.chaos.options import ChaosOptions
from tests.chaos.report import Report, errors_in, whereabouts
from tests.chaos.schedule import schedule

READY_S = 60.0
LOOK_EVERY_S = 10.0
ASKED_AGAIN = 200  # sessions that are followed once more from their beginning
ASKING_AT_ONCE = 8
READY_AGAIN_S = 30.0

Say = Callable[[str], None]


async def run(options: ChaosOptions, origin: str, say: Say = lambda _line: None) -> Report:
    """Runs it against the stand-in at `origin`. The folder of the logs is in the report."""
    folder = options.folder or Path(tempfile.mkdtemp(prefix="pinstream-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    async with _servers(options, folder) as (brokers, cluster):
        url = ",".join(broker.url for broker in brokers)
        async with connect(Settings(nats_url=url), "chaos") as bus:
            await set_up(bus, StreamSettings(stream_replicas=3 if cluster else 1))
            async with Fleet(options, folder, brokers, origin) as fleet:
                late = await fleet.ready(READY_S)
                assert not late, f"{late} did not start; see {folder}"
                say(f"ready; logs in {folder}")
                return await _run(options, folder, fleet, brokers, cluster, bus, say)


@asynccontextmanager
async def _servers(options: ChaosOptions, folder: Path) -> AsyncIterator[tuple[list[Broker], Cluster | None]]:
    server = binary(options.server)
    if options.cluster:
        async with Cluster(folder / "jetstream", server=server) as cluster:
            yield cluster.brokers, cluster
        return
    store = folder / "jetstream"
    store.mkdir()
    broker = Broker(store, log=folder / "nats-server.log", binary=server)
    broker.start()
    try:
        yield [broker], None
    finally:
        broker.stop()


async def _run(
    options: ChaosOptions,
    folder: Path,
    fleet: Fleet,
    brokers: list[Broker],
    cluster: Cluster | None,
    bus: Bus,
    say: Say,
) -> Report:
    copies = Copies(bus, Random(f"{options.seed} copies"))
    faults = Faults(fleet, brokers, cluster, bus, copies, options.seed)
    clients = Clients(fleet.gateways, options.seed, options.clients)
    tasks = [asyncio.create_task(copies.run(), name="copies"), asyncio.create_task(_tell(clients, faults, say))]
    loading = asyncio.create_task(clients.run(), name="clients")
    try:
        await faults.run(schedule(options), options.seconds)
        (folder / "faults.txt").write_text("\n".join(faults.diary))
        say("no more faults; waiting for rest")
        clients.begin.clear()
        began = time.monotonic()
        await asyncio.wait({loading}, timeout=options.settle_s)
        settled_s = time.monotonic() - began
        if loading.done():
            loading.result()
        await end(*tasks)
        not_ready = await fleet.ready(READY_AGAIN_S)
        await _ask_again(clients)
        account = ledger(clients.sessions, await whole_log(bus))
        hanging = await whereabouts(bus, account.wrong) if account.wrong else []
    finally:
        await end(*tasks, loading)
    exits: dict[str, Counter[int]] = {}
    for replica in fleet.replicas.values():
        exits.setdefault(replica.service, Counter()).update(replica.ends)
    sessions = clients.sessions
    return Report(
        options=options,
        ledger=account,
        injected=faults.injected,
        missed=faults.missed,
        copies=copies.counts,
        exits=exits,
        begun=len(sessions),
        refusals=sum(session.refusals for session in sessions),
        connections=sum(session.connections for session in sessions),
        settled_s=settled_s,
        slowest_s=max((session.took_s or 0.0 for session in sessions), default=0.0),
        not_ready=not_ready,
        folder=folder,
        hanging=hanging,
        errors=errors_in(folder),
    )


async def _tell(clients: Clients, faults: Faults, say: Say) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        done = sum(bool(session.completed) for session in clients.sessions)
        kills = sum(many for what, many in faults.injected.items() if what.startswith("kill"))
        say(f"{time.monotonic() - began:5.0f} s  {done} sessions complete, {len(clients.open)} open, {kills} kills")


async def _ask_again(clients: Clients) -> None:
    complete = [session for session in clients.sessions if session.completed][-ASKED_AGAIN:]
    at_once = asyncio.Semaphore(ASKING_AT_ONCE)

    async def ask(number: int) -> None:
        async with at_once:
            await clients.ask_again(complete[number])

    async with asyncio.TaskGroup() as group:
        for number in range(len(complete)):
            group.create_task(ask(number))
