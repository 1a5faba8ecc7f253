"""What each user of the broker may publish and subscribe to, made from the subjects, the streams and the durables.

`python -m libs.common.permissions` writes deploy/nats/accounts.conf; a test holds that it is up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from libs.common import subjects
from libs.common.streams import StreamSettings, consumers, streams, used_by

ACCOUNT = "PINSTREAM"
SYSTEM_ACCOUNT = "SYS"
STREAMS_JOB, OPERATOR, SUBSCRIBER, SYSTEM = "streams", "operator", "subscriber", "system"
FILE = Path("deploy/nats/accounts.conf")
REPLY_WITHIN = "30s"

STREAMS = [str(stream["name"]) for stream in streams(StreamSettings())]


class Rights(msgspec.Struct, frozen=True):
    """The patterns that a user may publish and subscribe to; `denied` is what it may not publish to in spite of them.

    `answers`: it may also publish one answer to each message that asks it for one.
    """

    publish: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    answers: bool = False


class _User:
    """Rights as they are gathered."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._publish: list[str] = []
        self._denied: list[str] = []
        self._subscribe = [f"{subjects.inbox_prefix(name)}.>"]
        self._answers = False

    def publishes(self, *patterns: str) -> _User:
        """May publish there."""
        self._publish += patterns
        return self

    def hears(self, *patterns: str) -> _User:
        """May subscribe to them."""
        self._subscribe += patterns
        return self

    def asks(self, *requests: str) -> _User:
        """May make requests of JetStream."""
        return self.publishes(*(f"{subjects.JETSTREAM}.{request}" for request in requests))

    def sees(self, *names: str) -> _User:
        """May ask what streams are like and how full they are."""
        return self.asks(*(f"STREAM.INFO.{name}" for name in names))

    def looks_up(self, *names: str) -> _User:
        """May read single messages of streams."""
        return self.asks(*(f"STREAM.MSG.GET.{name}" for name in names))

    def reads(self, *names: str) -> _User:
        """May read many messages of streams at once."""
        return self.asks(*(f"DIRECT.GET.{name}" for name in names))

    def removes(self, *names: str) -> _User:
        """May remove single messages of streams, finding them first."""
        return self.reads(*names).asks(*(f"STREAM.MSG.DELETE.{name}" for name in names))

    def tails(self, stream: str, pattern: str) -> _User:
        """May follow what is stored on `pattern`, by consumers of its own that pass."""
        self.asks(f"CONSUMER.CREATE.{stream}.*.{pattern}", f"CONSUMER.DELETE.{stream}.*")
        self.publishes(*(flow.format(stream=stream) for flow in subjects.FLOWS))
        for its_stream, config in consumers():
            if its_stream == stream:  # those that last are others'
                self._denied += [
                    f"{subjects.JETSTREAM}.CONSUMER.CREATE.{stream}.{config['name']}.>",
                    f"{subjects.JETSTREAM}.CONSUMER.DELETE.{stream}.{config['name']}",
                ]
        return self

    def pulls(self, durable: str) -> _User:
        """May take and answer the messages of a durable, and make it again where it is gone."""
        [(stream, config)] = [(stream, config) for stream, config in consumers() if config["name"] == durable]
        self.asks(
            f"CONSUMER.MSG.NEXT.{stream}.{durable}",
            f"CONSUMER.INFO.{stream}.{durable}",
            f"CONSUMER.CREATE.{stream}.{durable}.{config['filter_subject']}",
        )
        return self.publishes(*(answer.format(stream=stream, consumer=durable) for answer in subjects.ANSWERS))

    def works_as(self, stage: str) -> _User:
        """May take a stage's messages and suspects, set suspects aside, and bury what cannot be handled."""
        self.pulls(stage).pulls(subjects.SUSPECTS_OF[stage]).hears(subjects.ALL_CANCELS).announces()
        return self.publishes(subjects.suspects(stage), subjects.dead_letters_of(stage))

    def announces(self) -> _User:
        """May say who it is and how it does to those who ask."""
        self._answers = True
        return self.hears(*subjects.all_asked_of(self.name)).publishes(subjects.all_status(self.name))

    def rights(self) -> Rights:
        """All of them."""
        return Rights(_once(self._publish), _once(self._denied), _once(self._subscribe), self._answers)


def _once(patterns: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(patterns)))


def _records(*kinds: str) -> list[str]:
    return [subjects.records_of_all(kind) for kind in kinds]


def _streams_job() -> _User:
    user = _User(STREAMS_JOB).sees(*STREAMS)
    for name in STREAMS:
        user.asks(f"STREAM.CREATE.{name}", f"STREAM.UPDATE.{name}")
    for stream, config in consumers():
        user.asks(f"CONSUMER.CREATE.{stream}.{config['name']}.{config['filter_subject']}")
    return user


def _gateway() -> _User:
    user = _User(subjects.GATEWAY).sees(*used_by(subjects.GATEWAY)).announces()
    user.publishes(*map(subjects.stats, subjects.SERVICES)).hears(subjects.ALL_STATUS)  # it asks all how they do
    for stream, config in consumers():  # and how much waits, and for how long
        user.asks(f"CONSUMER.INFO.{stream}.{config['name']}").looks_up(stream)
    user.pulls(subjects.POSTMEN).publishes(subjects.dead_letters_of(subjects.POSTMEN))
    user.publishes(subjects.ALL_WEBHOOKS, subjects.ALL_CALLBACKS, subjects.WEBHOOK_KEY).looks_up(subjects.CALLBACKS)
    user.publishes(subjects.ALL_SEARCHES, subjects.ALL_CANCELS, subjects.ALL_LEASE_ENDS)
    user.publishes(*_records(subjects.REQUEST, subjects.CANCEL, subjects.CRAWLED))
    user.publishes(subjects.named_records_of_all(subjects.OWNED))
    user.publishes(subjects.ALL_LIMITS, subjects.ALL_TICKETS, subjects.ACCESS_SALT)
    user.looks_up(subjects.RESULTS, subjects.RAW, subjects.ACCESS, subjects.TICKETS, subjects.LIMITS, subjects.PACE)
    user.reads(subjects.ACCESS)
    user.removes(subjects.SEARCHES, subjects.RAW, subjects.DIRECT, subjects.QUARANTINE)  # of a cancelled session
    user.removes(subjects.RESULTS)  # none: this is how it finds out whether the broker stores
    user.tails(subjects.RESULTS, subjects.ALL_RECORDS)
    user.tails(subjects.ACCESS, subjects.ALL_ACCESS_KEYS)
    return user.tails(subjects.LIMITS, subjects.ALL_CROWDS)


def _crawler() -> _User:
    user = _User(subjects.CRAWLER).sees(*used_by(subjects.CRAWLER)).works_as(subjects.CRAWLER)
    user.publishes(subjects.ALL_RAW, subjects.ALL_LEASES, subjects.ALL_PACES)
    user.publishes(*_records(subjects.PROGRESS, subjects.CRAWLED))
    user.looks_up(subjects.RESULTS, subjects.RAW, subjects.PACE).reads(subjects.RESULTS, subjects.RAW)
    return user.tails(subjects.RESULTS, subjects.ALL_RECORDS)


def _transformer() -> _User:
    user = _User(subjects.TRANSFORMER).sees(*used_by(subjects.TRANSFORMER)).works_as(subjects.TRANSFORMER)
    return user.publishes(subjects.ALL_DIRECT, subjects.ALL_PACES).looks_up(subjects.PACE)


def _dedup() -> _User:
    user = _User(subjects.DEDUP).sees(*used_by(subjects.DEDUP)).works_as(subjects.DEDUP)
    user.pulls(subjects.DEADLINES).publishes(subjects.dead_letters_of(subjects.DEADLINES))
    user.publishes(*map(subjects.named_records_of_all, (subjects.VIDEO, subjects.REPEAT, subjects.UNAVAILABLE)))
    user.publishes(*_records(subjects.CRAWLED), subjects.ALL_LEASE_ENDS, subjects.ALL_SEEN)
    user.looks_up(subjects.RESULTS, subjects.RAW, subjects.SEEN).reads(subjects.RESULTS)
    return user.removes(subjects.RESULTS, subjects.RAW)  # to make room, and of a session that is over


def users() -> dict[str, Rights]:
    """The users of the account that has the streams, by name."""
    services = (_streams_job(), _gateway(), _crawler(), _transformer(), _dedup())
    return {
        **{user.name: user.rights() for user in services},
        # any program that wants to hear of results; what it missed it reads from the bucket
        SUBSCRIBER: _User(SUBSCRIBER).hears(subjects.PUBLIC_RESULTS).reads(subjects.RESULTS).rights(),
        OPERATOR: Rights(publish=(">",), subscribe=(">",)),
    }


def _block(rights: Rights) -> str:
    def listed(patterns: Iterable[str]) -> str:
        return "".join(f'\n              "{pattern}"' for pattern in patterns) + "\n            "

    publish = f"allow: [{listed(rights.publish)}]"
    if rights.denied:
        publish += f"\n            deny: [{listed(rights.denied)}]"
    answers = f'\n          allow_responses: {{ max: 1, expires: "{REPLY_WITHIN}" }}' if rights.answers else ""
    return f"""permissions: {{
          publish: {{
            {publish}
          }}
          subscribe: {{
            allow: [{listed(rights.subscribe)}]
          }}{answers}
        }}"""


def accounts_file() -> str:
    """The text of deploy/nats/accounts.conf."""
    blocks = "\n".join(
        f"      {{ # {name}\n        nkey: ${name}_key\n        {_block(rights)}\n      }}"
        for name, rights in users().items()
    )
    return f"""# Made by `python -m libs.common.permissions` of libs/common/permissions.py: change that, not this.
# A user a service, each with its own key (`python -m libs.common.broker_keys`); only public keys are known here.
include "keys/keys.conf"

accounts {{
  {ACCOUNT} {{
    jetstream: enabled
    users: [
{blocks}
    ]
  }}
  {SYSTEM_ACCOUNT} {{
    users: [
      {{ nkey: ${SYSTEM}_key }} # {SYSTEM}
    ]
  }}
}}
system_account: {SYSTEM_ACCOUNT}
"""


if __name__ == "__main__":
    FILE.write_text(accounts_file())
    sys.exit(0)
