"""Sets up the streams, the bucket and the durable consumers; run once before the services, and again at any time.

`python -m libs.common.streams`
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import structlog
from msgspec import Meta

from libs.common import subjects
from libs.common.bus import Bus, connect
from libs.common.errors import BrokerUnavailable, PinstreamError, StartFailed, StreamMissing
from libs.common.exit_codes import EX_UNAVAILABLE
from libs.common.loop import run_main
from libs.common.refusal import ApiRefused
from libs.common.settings import Settings, load
from libs.common.telemetry import set_up_logs

MINUTE, HOUR, DAY = 60, 3600, 86400
MB = 1024 * 1024
NAME_IN_USE = 10058
TICKET_S = 30  # a ticket is used at once, or by nobody
TICKET_KEPT_S = HOUR  # of one that opened a session's events, since these may be opened by it again

SUSPECTS_IN_FLIGHT = 1_000
# workers renew it every third; this is how long a killed one's messages wait
ACK_WAIT_S = 10.0  # a crawl that is given to another begins anew
ITEM_ACK_WAIT_S = 5.0


class StreamSettings(Settings, frozen=True, kw_only=True):
    """What the set-up job is told besides."""

    stream_replicas: Annotated[int, Meta(ge=1, le=5, description="copies of every stream; 3 in production")] = 1
    results_max_age_s: Annotated[int, Meta(ge=60, description="how long a session's log is kept")] = DAY
    raw_max_bytes: Annotated[int, Meta(ge=MB, description="bound of the raw and the direct stream, bytes")] = 256 * MB
    results_max_bytes: Annotated[int, Meta(ge=MB, description="bound of the session logs, bytes")] = 1024 * MB
    seen_max_age_s: Annotated[
        int, Meta(ge=60, description="how long `new_only` searches remember what a scope was given")
    ] = 30 * DAY
    seen_max_bytes: Annotated[
        int, Meta(ge=MB, description="bound of what they remember, bytes; past it the oldest is forgotten")
    ] = 256 * MB


def streams(settings: StreamSettings) -> list[dict[str, Any]]:
    """The configuration of every stream."""

    def stream(name: str, taken: list[str], max_age_s: int, max_bytes: int, **more: Any) -> dict[str, Any]:
        return {
            "name": name,
            "subjects": taken,
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "max_age": max_age_s * 10**9,
            "max_bytes": max_bytes,
            "num_replicas": settings.stream_replicas,
            "duplicate_window": min(2 * MINUTE, max_age_s or 2 * MINUTE) * 10**9,
            "allow_direct": True,
            **more,
        }

    once = {"max_msgs_per_subject": 1, "discard_new_per_subject": True}
    queue = {"retention": "workqueue"}
    return [
        stream(subjects.SEARCHES, [subjects.ALL_SEARCHES], HOUR, 64 * MB, **queue, **once),
        stream(
            subjects.RAW,
            [subjects.ALL_RAW, subjects.ALL_LEASES],
            HOUR,
            settings.raw_max_bytes,
            **once,
        ),
        stream(subjects.DIRECT, [subjects.ALL_DIRECT], HOUR, settings.raw_max_bytes, **queue, **once),
        stream(subjects.QUARANTINE, [subjects.ALL_SUSPECTS], HOUR, settings.raw_max_bytes, **queue, **once),
        # the newest are kept: a flood of garbage must not hold up those who bury it
        stream(subjects.DEAD_LETTERS, [subjects.ALL_DEAD_LETTERS], 7 * DAY, 256 * MB, discard="old"),
        stream(subjects.PACE, [subjects.ALL_PACES], DAY, MB, discard="old", max_msgs_per_subject=1),
        # no key is ever forgotten: revoked ones stay listed
        stream(subjects.ACCESS, [subjects.ALL_ACCESS_KEYS], 0, 16 * MB, max_msgs_per_subject=1),
        stream(subjects.LIMITS, [subjects.ALL_LIMITS], HOUR, 16 * MB, discard="old", max_msgs_per_subject=1),
        # full, it forgets the oldest, which nobody is about to use: new ones are at once
        stream(
            subjects.TICKETS,
            [subjects.ALL_TICKETS],
            TICKET_KEPT_S,
            16 * MB,
            discard="old",
            max_msgs_per_subject=1,
        ),
        stream(
            subjects.RESULTS,
            [subjects.ALL_RECORDS],
            settings.results_max_age_s,
            settings.results_max_bytes,
            max_msgs_per_subject=1,
            allow_rollup_hdrs=True,
            republish={"src": subjects.ALL_RECORDS, "dest": subjects.PUBLIC_RESULTS},
        ),
        # full, it forgets the oldest: a video shown again after weeks is less than searches that cannot go on
        # longer than the log, so that whoever is told of a session that is gone can say so
        stream(subjects.WEBHOOKS, [subjects.ALL_WEBHOOKS], settings.results_max_age_s + HOUR, 64 * MB, **queue, **once),
        stream(
            subjects.CALLBACKS,
            [subjects.ALL_CALLBACKS],
            settings.results_max_age_s + HOUR,
            64 * MB,
            max_msgs_per_subject=1,
            discard="old",
        ),
        stream(
            subjects.SEEN,
            [subjects.ALL_SEEN],
            settings.seen_max_age_s,
            settings.seen_max_bytes,
            max_msgs_per_subject=1,
            discard="old",
        ),
    ]


def as_saved(settings: StreamSettings, saved: list[dict[str, Any]], told: Mapping[str, str]) -> StreamSettings:
    """`settings` with what the environment, `told`, leaves open as the configurations `saved` have it.

    A broker that is given a backup keeps its copies and its bounds, whoever restores it and from where.
    """
    of = {config["name"]: config for config in saved}
    had = [
        ("stream_replicas", subjects.RESULTS, "num_replicas", 1),
        ("results_max_age_s", subjects.RESULTS, "max_age", 10**9),
        ("results_max_bytes", subjects.RESULTS, "max_bytes", 1),
        ("raw_max_bytes", subjects.RAW, "max_bytes", 1),
        ("seen_max_age_s", subjects.SEEN, "max_age", 10**9),
        ("seen_max_bytes", subjects.SEEN, "max_bytes", 1),
    ]
    return msgspec.structs.replace(
        settings,
        **{
            name: of[stream][key] // unit
            for name, stream, key, unit in had
            if stream in of and of[stream].get(key, 0) > 0 and not told.get(name.upper())
        },
    )


def consumers() -> list[tuple[str, dict[str, Any]]]:
    """The stream and configuration of every durable consumer."""

    def durable(name: str, filter_subject: str, max_ack_pending: int, ack_wait_s: float = ACK_WAIT_S) -> dict[str, Any]:
        return {
            "durable_name": name,
            "name": name,
            "filter_subject": filter_subject,
            "ack_policy": "explicit",
            "ack_wait": int(ack_wait_s * 1e9),
            "max_ack_pending": max_ack_pending,
            "max_deliver": -1,
            "deliver_policy": "all",
        }

    suspects = [
        (subjects.QUARANTINE, durable(name, subjects.suspects(stage), SUSPECTS_IN_FLIGHT))
        for stage, name in subjects.SUSPECTS_OF.items()
    ]
    return [
        *suspects,
        (subjects.SEARCHES, durable(subjects.CRAWLER, subjects.ALL_SEARCHES, 1_000)),
        (subjects.RAW, durable(subjects.TRANSFORMER, subjects.ALL_RAW, 10_000, ITEM_ACK_WAIT_S)),
        (subjects.DIRECT, durable(subjects.DEDUP, subjects.ALL_DIRECT, 10_000, ITEM_ACK_WAIT_S)),
        # a session is pending here until its receiver has all of it, or is given up
        (subjects.WEBHOOKS, durable(subjects.POSTMEN, subjects.ALL_WEBHOOKS, 100_000, ITEM_ACK_WAIT_S)),
        # a session is pending here until its deadline is past
        (subjects.RESULTS, durable(subjects.DEADLINES, subjects.ALL_REQUEST_RECORDS, 100_000)),
    ]


def used_by(service: str) -> tuple[str, ...]:
    """The streams that a service publishes to, takes from or reads: what it waits for, and may ask the state of."""
    every_stage = (subjects.QUARANTINE, subjects.DEAD_LETTERS)
    return {
        subjects.GATEWAY: tuple(str(stream["name"]) for stream in streams(StreamSettings())),  # it shows all of them
        subjects.CRAWLER: (subjects.SEARCHES, subjects.RAW, subjects.RESULTS, subjects.PACE, *every_stage),
        subjects.TRANSFORMER: (subjects.RAW, subjects.DIRECT, subjects.PACE, *every_stage),
        subjects.DEDUP: (subjects.DIRECT, subjects.RAW, subjects.RESULTS, subjects.SEEN, *every_stage),
    }[service]


async def set_up(bus: Bus, settings: StreamSettings) -> None:
    """Makes what is missing and brings what exists up to date."""
    for config in streams(settings):
        try:
            await bus.api(f"STREAM.CREATE.{config['name']}", config)
        except ApiRefused as error:
            if error.err_code != NAME_IN_USE:
                raise
            there = (await bus.api(f"STREAM.INFO.{config['name']}"))["config"]
            if there.get("deny_delete"):  # of an older version, and for ever: its sessions only go by age
                config["deny_delete"] = True
            await bus.api(f"STREAM.UPDATE.{config['name']}", config)
    for stream, config in consumers():
        await _make(bus, stream, config)


async def remake(bus: Bus, stream: str, durable: str) -> bool:
    """Makes one of the durables again that somebody deleted; returns whether it is one of them.

    What was delivered and not yet acknowledged comes again, which every handler bears. Streams are never made by a
    service: with one its messages are gone, which has to be seen by people.
    """
    for its_stream, config in consumers():
        if (its_stream, config["name"]) == (stream, durable):
            await _make(bus, stream, config)
            return True
    return False


def filter_of(durable: str) -> str:
    """What one of the durables takes."""
    return str(next(config["filter_subject"] for _, config in consumers() if config["name"] == durable))


async def _make(bus: Bus, stream: str, config: dict[str, Any]) -> None:
    request = {"stream_name": stream, "config": config, "action": ""}
    await bus.api(f"CONSUMER.CREATE.{stream}.{config['name']}.{config['filter_subject']}", request)


async def await_streams(bus: Bus, service: str, patience_s: float = 10.0) -> None:
    """Waits until the streams that a service uses exist; raises StartFailed after `patience_s`.

    Of the durables nothing is asked: one that lacks is made again by its service, which must not wait for others'.
    """
    try:
        async with asyncio.timeout(patience_s):
            while True:
                try:
                    for name in used_by(service):
                        await bus.api(f"STREAM.INFO.{name}", patience_s=2.0)
                except (StreamMissing, ApiRefused, BrokerUnavailable):
                    await asyncio.sleep(0.05)
                else:
                    return
    except TimeoutError as error:
        raise StartFailed(str(StreamMissing())) from error


async def _main(settings: StreamSettings) -> None:
    async with connect(settings, "streams") as bus:
        await set_up(bus, settings)
    structlog.get_logger().info("streams are set up", replicas=settings.stream_replicas)


def main() -> int:
    """The set-up job."""
    settings = load(StreamSettings, "python -m libs.common.streams", __doc__ or "")
    set_up_logs(settings, "streams")
    try:
        run_main(_main(settings))
    except PinstreamError as error:
        structlog.get_logger().error("could not set up the streams", error=str(error))
        return EX_UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
