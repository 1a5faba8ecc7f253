"""What each user of the broker may do, by the committed accounts.conf on a real server: that, and nothing else."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from libs.client.broker import Broker
from libs.common import broker_keys, subjects
from libs.common.bus import Bus, connect
from libs.common.errors import PermissionRefused, PinstreamError, StartFailed
from libs.common.permissions import FILE, accounts_file
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, consumers, set_up, streams
from tests.guarded import FILES, USERS, guarded_broker, key
from tests.wait import wait_until

SESSION = "5e55"
LAST = "published.last"  # which nobody may
STREAMS = [str(stream["name"]) for stream in streams(StreamSettings())]

# the durables, and whose work is what they take
WORKED_ON_BY = {
    subjects.CRAWLER: "crawler",
    subjects.TRANSFORMER: "transformer",
    subjects.DEDUP: "dedup",
    subjects.DEADLINES: "dedup",
    subjects.POSTMEN: "gateway",
    **{name: stage for stage, name in subjects.SUSPECTS_OF.items()},
}
# each subject that anything is published to, and who may
PUBLISHED = {
    subjects.search(SESSION): {"gateway"},
    subjects.cancel(SESSION): {"gateway"},
    subjects.raw(SESSION, "1-0"): {"crawler"},
    subjects.lease(SESSION, "a1"): {"crawler"},
    subjects.lease_end(SESSION): {"gateway", "crawler", "dedup"},
    subjects.direct(SESSION, "1-0"): {"transformer"},
    subjects.record(SESSION, subjects.REQUEST): {"gateway"},
    subjects.record(SESSION, subjects.CANCEL): {"gateway"},
    subjects.record(SESSION, subjects.PROGRESS): {"crawler"},
    subjects.record(SESSION, subjects.CRAWLED): {"gateway", "crawler", "dedup"},
    subjects.record(SESSION, subjects.VIDEO, "ab"): {"dedup"},
    subjects.record(SESSION, subjects.REPEAT, "1-0"): {"dedup"},
    subjects.record(SESSION, subjects.UNAVAILABLE, "1-0"): {"dedup"},
    subjects.owned("somebody", SESSION): {"gateway"},
    subjects.pace("lane"): {"crawler", "transformer"},
    subjects.seen("scope", "ab"): {"dedup"},
    subjects.access_key("key"): set(),
    subjects.ACCESS_SALT: {"gateway"},
    subjects.ticket("digest"): {"gateway"},
    subjects.rate("digest"): {"gateway"},
    subjects.crowd("gateway"): {"gateway"},
    subjects.webhook("", "place", SESSION): {"gateway"},
    subjects.callback(SESSION): {"gateway"},
    subjects.WEBHOOK_KEY: {"gateway"},
    **{subjects.status(service, "r1"): {service} for service in subjects.SERVICES},
    **{subjects.stats(service): {"gateway"} for service in subjects.SERVICES},
    **{subjects.stats(service, "r1"): set() for service in subjects.SERVICES},
    **{
        subjects.suspect(stage, subjects.raw(SESSION, "1-0")): {stage}
        for stage in (subjects.CRAWLER, subjects.TRANSFORMER, subjects.DEDUP)
    },
    **{
        subjects.dead_letter(stage, subjects.raw(SESSION, "1-0")): {user}
        for stage, user in WORKED_ON_BY.items()
        if stage not in subjects.SUSPECTS_OF.values()
    },
    f"{subjects.PUBLIC_RESULTS[:-1]}{SESSION}.video.ab": set(),
    "anything.else": set(),
}
# what may be asked of JetStream about a stream, and who may ask which
OF_STREAMS = {
    "STREAM.INFO": {
        subjects.SEARCHES: {"streams", "gateway", "crawler"},
        subjects.RAW: {"streams", "gateway", "crawler", "transformer", "dedup"},
        subjects.DIRECT: {"streams", "gateway", "transformer", "dedup"},
        subjects.QUARANTINE: {"streams", "gateway", "crawler", "transformer", "dedup"},
        subjects.DEAD_LETTERS: {"streams", "gateway", "crawler", "transformer", "dedup"},
        subjects.RESULTS: {"streams", "gateway", "crawler", "dedup"},
        subjects.PACE: {"streams", "gateway", "crawler", "transformer"},
        subjects.SEEN: {"streams", "gateway", "dedup"},
        subjects.ACCESS: {"streams", "gateway"},
        subjects.TICKETS: {"streams", "gateway"},
        subjects.LIMITS: {"streams", "gateway"},
        subjects.WEBHOOKS: {"streams", "gateway"},
        subjects.CALLBACKS: {"streams", "gateway"},
    },
    "STREAM.CREATE": {stream: {"streams"} for stream in STREAMS},
    "STREAM.UPDATE": {stream: {"streams"} for stream in STREAMS},
    "STREAM.DELETE": {},
    "STREAM.PURGE": {},
    "STREAM.SNAPSHOT": {},
    "STREAM.LEADER.STEPDOWN": {},
    "STREAM.PEER.REMOVE": {},
    "CONSUMER.LIST": {},
    "CONSUMER.NAMES": {},
    "CONSUMER.CREATE": {},  # without a name or a filter
    "STREAM.MSG.GET": {
        subjects.RESULTS: {"gateway", "crawler", "dedup"},
        subjects.RAW: {"gateway", "crawler", "dedup"},
        subjects.ACCESS: {"gateway"},
        subjects.TICKETS: {"gateway"},
        subjects.LIMITS: {"gateway"},
        subjects.PACE: {"gateway", "crawler", "transformer"},
        subjects.SEEN: {"dedup"},
        subjects.CALLBACKS: {"gateway"},
        subjects.SEARCHES: {"gateway"},
        subjects.DIRECT: {"gateway"},
        subjects.QUARANTINE: {"gateway"},
        subjects.WEBHOOKS: {"gateway"},
    },
    "DIRECT.GET": {
        subjects.RESULTS: {"gateway", "crawler", "dedup"},
        subjects.RAW: {"gateway", "crawler", "dedup"},
        subjects.SEARCHES: {"gateway"},
        subjects.DIRECT: {"gateway"},
        subjects.QUARANTINE: {"gateway"},
        subjects.ACCESS: {"gateway"},
    },
    "STREAM.MSG.DELETE": {
        subjects.SEARCHES: {"gateway"},
        subjects.RAW: {"gateway", "dedup"},
        subjects.DIRECT: {"gateway"},
        subjects.QUARANTINE: {"gateway"},
        subjects.RESULTS: {"gateway", "dedup"},
    },
}
FORBIDDEN = [
    "$JS.API.INFO",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.LIST",
    "$JS.API.STREAM.CREATE.OTHER",
    "$JS.API.STREAM.RESTORE.OTHER",
    "$JS.API.CONSUMER.DURABLE.CREATE.RAW.other",
    "$JS.API.CONSUMER.CREATE.RAW.other.media.raw.*.*",
    "$JS.API.ACCOUNT.PURGE.PINSTREAM",
    "$JS.API.META.LEADER.STEPDOWN",
    "$SYS.REQ.SERVER.PING",
    "_INBOX.somebody.1",
    *(f"{subjects.inbox_prefix(user)}.x.1" for user in USERS),
]
HEARD: dict[str, set[str]] = {
    subjects.ALL_CANCELS: {"crawler", "transformer", "dedup"},
    subjects.cancel(SESSION): {"crawler", "transformer", "dedup"},
    **{f"{subjects.inbox_prefix(user)}.x": {user} for user in USERS},
    **{
        asked: {service} if subjects.SERVICES[service] in asked else set(subjects.SERVICES)
        for service in subjects.SERVICES
        for asked in subjects.asked_of(service, "r1")
    },
    subjects.ALL_STATUS: {"gateway"},
}
HEARD |= {
    pattern: set()
    for pattern in [
        *(">", "*", "$SYS.>", "$JS.>", "_INBOX.>", "results.>", "search.>", "media.>", "media.raw.*.*", "$KV.>"),
        *("*.>", f"{subjects.inbox_prefix('operator')}.>"),
        subjects.ALL_SEARCHES,
        subjects.ALL_DIRECT,
        subjects.ALL_ACCESS_KEYS,
        subjects.ALL_TICKETS,
        subjects.ALL_RECORDS,
        "$JS.EVENT.ADVISORY.>",
        *("$SRV.>", "$SRV.*", "$SRV.STATS.>", "$SRV.*.*.*"),
    ]
}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One with the committed accounts, its streams set up by the user whose work that is."""
    folder = tmp_path_factory.mktemp("guarded")
    broker = guarded_broker(folder)
    broker.start()

    async def make() -> None:
        async with as_user(broker, "streams") as bus:
            await set_up(bus, StreamSettings())
            await set_up(bus, StreamSettings())  # again, as a newer version would

    uvloop.run(make())
    yield broker
    broker.stop()


@asynccontextmanager
async def as_user(broker: Broker, user: str, name: str | None = None) -> AsyncIterator[Bus]:
    settings = Settings(nats_url=broker.url, nats_nkey_file=key(broker.store.parent, user))
    async with connect(settings, name or user) as bus:
        yield bus


async def permitted(bus: Bus, published: Iterable[str]) -> set[str]:
    """Those of the subjects that the user may publish to; each other is refused at once, and the log says so."""
    with capture_logs() as logs:
        asking = {
            subject: asyncio.create_task(bus._request(subject, b"\xff", None, 20.0))  # nobody could carry it out
            for subject in [*published, LAST]
        }
        with pytest.raises(PermissionRefused, match=LAST):
            await asking.pop(LAST)
        found = {subject for subject, asked in asking.items() if not _was_refused(asked)}
        for asked in asking.values():
            asked.cancel()
        await asyncio.gather(*asking.values(), return_exceptions=True)
    told = [line["subject"] for line in logs if (line["log_level"], line.get("to")) == ("error", "publish")]
    assert sorted(told) == sorted({LAST, *asking} - found)
    return found


def _was_refused(asked: asyncio.Task[Any]) -> bool:
    return asked.done() and isinstance(asked.exception(), PermissionRefused)


async def hearing(bus: Bus, pattern: str) -> bool:
    """Whether the user may subscribe to it."""

    async def nothing(_message: object) -> None:
        pass

    with capture_logs() as logs:
        subscription = await bus.subscribe(pattern, nothing)
        for _ in range(2):  # the first goes before the subscription
            await bus.client.flush()
        told = [line for line in logs if line.get("to") == "subscription"]
        await subscription.unsubscribe()
    assert [line["subject"] for line in told] in ([], [pattern.lower()])
    return not told


def test_the_committed_accounts_are_those_of_the_code() -> None:
    assert (FILES / FILE.name).read_text() == accounts_file(), "run: python -m libs.common.permissions"


@pytest.mark.parametrize("user", USERS)
async def test_a_user_publishes_to_its_own_subjects_only(broker: Broker, user: str) -> None:
    async with as_user(broker, user) as bus:
        assert await permitted(bus, PUBLISHED) == {subject for subject, users in PUBLISHED.items() if user in users}


@pytest.mark.parametrize("user", USERS)
async def test_a_user_asks_of_jetstream_what_its_work_needs_only(broker: Broker, user: str) -> None:
    asked = {
        f"$JS.API.{request}.{stream}": by_stream.get(stream, set())
        for request, by_stream in OF_STREAMS.items()
        for stream in STREAMS
    }
    async with as_user(broker, user) as bus:
        assert await permitted(bus, asked) == {subject for subject, users in asked.items() if user in users}
        assert await permitted(bus, FORBIDDEN) == set()


@pytest.mark.parametrize("user", USERS)
async def test_a_user_takes_and_answers_the_messages_of_its_own_durables_only(broker: Broker, user: str) -> None:
    async with as_user(broker, user) as bus:
        for stream, config in consumers():
            durable = config["name"]
            worker = WORKED_ON_BY[durable]
            made = f"$JS.API.CONSUMER.CREATE.{stream}.{durable}.{config['filter_subject']}"
            works = {f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}", *answers(stream, durable)}
            asked = f"$JS.API.CONSUMER.INFO.{stream}.{durable}"
            never = {
                f"$JS.API.CONSUMER.DELETE.{stream}.{durable}",
                f"$JS.API.CONSUMER.PAUSE.{stream}.{durable}",
                f"$JS.API.CONSUMER.LEADER.STEPDOWN.{stream}.{durable}",
                f"$JS.API.CONSUMER.CREATE.{stream}.{durable}",
                f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{durable}",
                f"$JS.API.CONSUMER.CREATE.{stream}.{durable}.>",
            }
            wanted = works | {made, asked} if user == worker else set()
            wanted |= {made} if user == "streams" else {asked} if user == "gateway" else set()
            assert await permitted(bus, {made, asked} | works | never) == wanted


def answers(stream: str, durable: str) -> set[str]:
    """What tells of a message of a durable: the older form, and that of a server with js_ack_fc_v2."""
    return {f"$JS.ACK.{stream}.{durable}.1.2.3.4.5", f"$JS.ACK._.ACCOUNT.{stream}.{durable}.1.2.3.4.5.x"}


@pytest.mark.parametrize("user", USERS)
async def test_a_user_hears_what_is_meant_for_it_only(broker: Broker, user: str) -> None:
    async with as_user(broker, user) as bus:
        heard = {pattern for pattern in HEARD if await hearing(bus, pattern)}
    assert heard == {pattern for pattern, users in HEARD.items() if user in users}


async def test_other_programs_hear_results_and_say_nothing(broker: Broker) -> None:
    async with as_user(broker, "subscriber") as bus:
        assert await hearing(bus, "results.>")
        assert not await hearing(bus, ">")
        assert await permitted(bus, [*PUBLISHED, *FORBIDDEN, "$JS.API.DIRECT.GET.KV_results"]) == {
            "$JS.API.DIRECT.GET.KV_results"
        }


async def test_people_do_what_they_want_but_with_the_server(broker: Broker) -> None:
    async with as_user(broker, "operator", "keys") as bus:
        assert set((await bus.api("STREAM.NAMES"))["streams"]) == set(STREAMS)
        with pytest.raises(PinstreamError):
            await bus.api("STREAM.INFO.NONE", patience_s=1.0)
        nobody = await bus._request("$SYS.REQ.SERVER.PING", b"", None, 5.0)
        assert (nobody.headers or {})["Status"] == "503"


async def test_a_service_with_the_key_of_another_does_not_start_and_says_why(broker: Broker) -> None:
    with pytest.raises(StartFailed, match="is NATS_NKEY_FILE the key of crawler"):
        async with as_user(broker, "gateway", "crawler"):
            pass


async def test_a_server_that_asks_for_a_name_is_told_of_as_such(broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="wants to know who this is: set NATS_NKEY_FILE"):
        async with connect(Settings(nats_url=broker.url), "gateway"):
            pass
    broker_keys.make(tmp_path)  # others
    stranger = Settings(nats_url=broker.url, nats_nkey_file=str(broker_keys.seed_file(tmp_path, "gateway")))
    with pytest.raises(StartFailed, match="does not know the key of NATS_NKEY_FILE"):
        async with connect(stranger, "gateway"):
            pass
    none = tmp_path / "none"
    none.write_text("SUAFUNNYSEED")
    with pytest.raises(StartFailed, match=r"NATS_NKEY_FILE: .*none' holds no nkey seed") as failed:
        async with connect(Settings(nats_url=broker.url, nats_nkey_file=str(none)), "gateway"):
            pass
    assert "SUAFUNNYSEED" not in str(failed.value)


async def test_a_newer_set_up_job_needs_the_newer_accounts_and_a_reload_is_enough(tmp_path: Path) -> None:
    newer = guarded_broker(tmp_path)
    accounts = newer.store / FILE.name
    lines = accounts.read_text().splitlines(keepends=True)
    accounts.write_text("".join(line for line in lines if subjects.WEBHOOKS not in line))  # as before webhooks
    newer.start()
    try:
        async with as_user(newer, "streams") as bus:
            with pytest.raises(PermissionRefused, match=rf"STREAM\.CREATE\.{subjects.WEBHOOKS}"):
                await set_up(bus, StreamSettings())
        accounts.write_text("".join(lines))
        assert newer.process is not None
        newer.process.send_signal(signal.SIGHUP)
        await wait_until(lambda: "Reloaded server configuration" in newer.log.read_text(), "the accounts are read anew")
        async with as_user(newer, "streams") as bus:
            await set_up(bus, StreamSettings())
    finally:
        newer.stop()
