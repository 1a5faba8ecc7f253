"""The picture of replicas, moment by moment: what is asked and heard when, without a broker."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from libs.common import micro, subjects
from libs.common.micro import Gone, Health
from services.gateway.replicas import GONE_MOST, KEPT_S, LOST, READY, STOPPED, STOPPING, UNREADY, WINDOW_S, Replicas

WALL = 1_700_000_000.0


def stats(id_: str, service: str = "transformer", *, done: int = 0, took_ms: float = 0.0, **health: Any) -> bytes:
    endpoint = micro.EndpointStats(
        name="items",
        subject=subjects.ALL_RAW,
        num_requests=done,
        processing_time=int(took_ms * 1e6),
        data=msgspec.Raw(b'{"busy":1,"most":200}'),
    )
    own = micro.EndpointStats(name=micro.HEALTH, subject="s", data=msgspec.Raw(msgspec.json.encode(Health(**health))))
    return msgspec.json.encode(
        micro.Stats(
            type="io.nats.micro.v1.stats_response",
            name=subjects.SERVICES[service],
            id=id_,
            version="0.1.0",
            metadata={"replica": id_},
            started="2026-01-01T00:00:00Z",
            endpoints=[endpoint, own],
        )
    )


class Watched:
    """Replicas and a clock; `asked` is one second of polling."""

    def __init__(self) -> None:
        self.replicas = Replicas(cast(Any, None))
        self.now = 100.0

    def heard(self, body: bytes) -> None:
        self.replicas.heard(body, self.now, WALL + self.now)

    def asked(self, *answers: bytes) -> None:
        self.now += 1.0
        self.replicas.asked(self.now)
        for body in answers:
            self.heard(body)

    def state(self, id_: str = "a", later_s: float = 0.0) -> str | None:
        found = self.replicas._known.get(id_)
        return None if found is None else found.state(self.now + later_s)


@pytest.fixture
def watched() -> Watched:
    watched = Watched()
    watched.heard(stats("a"))
    return watched


def test_one_that_answers_is_there_and_one_that_says_why_not_is_unready(watched: Watched) -> None:
    assert watched.state() == READY
    watched.asked(stats("a", checks={"items": True, "permissions": False}))
    assert watched.state() == UNREADY


def test_one_that_falls_silent_is_lost_within_five_seconds_and_stays_so(watched: Watched) -> None:
    silent_since = watched.now
    watched.asked()
    watched.asked()
    assert watched.state(later_s=0.99) == READY
    watched.asked()
    assert watched.state() == READY  # the answer to the third poll may be on its way
    assert watched.state(later_s=0.3) == LOST
    assert watched.now + 0.3 - silent_since < 5
    for _ in range(5):
        watched.asked()
        assert watched.state() == LOST


def test_one_that_was_slow_is_back_as_soon_as_it_answers(watched: Watched) -> None:
    for _ in range(5):
        watched.asked()
    watched.asked(stats("a"))
    assert watched.state() == READY


def test_one_that_says_goodbye_is_stopped_and_never_lost(watched: Watched) -> None:
    watched.heard(stats("a", state=micro.STOPPING))
    assert watched.state() == STOPPING
    watched.heard(stats("a", state=micro.STOPPED))
    for _ in range(10):
        watched.asked()
    assert watched.state() == STOPPED


def test_one_that_dies_while_it_stops_is_lost(watched: Watched) -> None:
    watched.heard(stats("a", state=micro.STOPPING))
    for _ in range(4):
        watched.asked()
    assert watched.state() == LOST


def test_nobody_is_lost_for_the_brokers_absence(watched: Watched) -> None:
    watched.asked()
    watched.asked()
    watched.now += 60  # nobody can be asked
    assert watched.state() == READY
    watched.replicas.forgive()
    for _ in range(3):
        watched.asked()
    assert watched.state(later_s=0.9) == READY
    for _ in range(3):
        watched.asked()
    assert watched.state(later_s=0.9) == LOST


def test_a_gateway_that_stood_still_loses_nobody(watched: Watched) -> None:
    watched.asked()
    watched.now += 30
    assert watched.state() == READY


def test_those_that_are_gone_are_forgotten_after_a_while(watched: Watched) -> None:
    for _ in range(4):
        watched.asked()
    heard_at = watched.replicas._known["a"].heard_at
    watched.replicas._forget(watched.now + 1, heard_at + KEPT_S[LOST] - 1)
    assert watched.state(later_s=1) == LOST
    watched.replicas._forget(watched.now + 1, heard_at + KEPT_S[LOST] + 1)
    assert watched.state() is None


def test_of_a_service_that_dies_again_and_again_the_last_are_kept(watched: Watched) -> None:
    for number in range(GONE_MOST + 5):
        watched.now += 0.01
        watched.heard(stats(f"dead-{number:02}", state=micro.STOPPED))
    watched.replicas._forget(watched.now, WALL + watched.now)
    left = set(watched.replicas._known)
    assert left == {"a"} | {f"dead-{number:02}" for number in range(5, GONE_MOST + 5)}


def gone(id_: str, state: str, heard_at: float) -> Gone:
    return Gone(
        name=subjects.SERVICES["crawler"],
        id=id_,
        version="0.1.0",
        metadata={},
        started="",
        state=state,
        heard_at=heard_at,
    )


def test_what_another_gateway_knows_of_the_gone_is_shown_too(watched: Watched) -> None:
    wall = WALL + watched.now
    told = (gone("b", LOST, wall - 60), gone("c", STOPPED, wall - 10), gone("old", STOPPED, wall - KEPT_S[STOPPED] - 1))
    watched.asked(stats("g", "gateway", gone=told), stats("a"))
    assert (watched.state("b"), watched.state("c"), watched.state("old")) == (LOST, STOPPED, None)
    assert {one.id for one in watched.replicas._known.values() if one.state(watched.now) == LOST} == {"b"}
    watched.asked(stats("b", "crawler"))  # it was another gateway that could not hear it
    assert watched.state("b") == READY


def test_one_that_answers_here_is_not_lost_because_another_says_so(watched: Watched) -> None:
    watched.asked(stats("a"), stats("g", "gateway", gone=(gone("a", LOST, WALL + watched.now),)))
    assert watched.state() == READY


def test_a_goodbye_that_only_another_gateway_heard_is_believed(watched: Watched) -> None:
    for _ in range(4):
        watched.asked()
    watched.asked(stats("g", "gateway", gone=(gone("a", STOPPED, WALL + watched.now),)))
    assert watched.state(later_s=0.5) == STOPPED


def test_rates_and_latencies_are_of_the_last_seconds(watched: Watched) -> None:
    for second in range(1, 31):
        per_second, each_ms = (1, 500) if second <= 15 else (10, 20)
        done = second if second <= 15 else 15 + (second - 15) * per_second
        took = second * 500 if second <= 15 else 15 * 500 + (second - 15) * per_second * each_ms
        watched.asked(stats("a", done=done, took_ms=took))
        pace = watched.replicas._known["a"].pace("items")
        assert pace is not None
        if second == 15:
            assert (pace.per_second, pace.latency_ms) == (1.0, 500.0)
    assert pace is not None and (pace.per_second, pace.latency_ms) == (10.0, 20.0)
    first_at = watched.replicas._known["a"]._samples[0][0]
    assert WINDOW_S <= watched.now - first_at < WINDOW_S + 2


def test_of_one_that_does_nothing_no_latency_is_made_up(watched: Watched) -> None:
    assert watched.replicas._known["a"].pace("items") is None
    watched.asked(stats("a"))
    pace = watched.replicas._known["a"].pace("items")
    assert pace is not None and (pace.per_second, pace.latency_ms) == (0.0, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"type":"t","name":"someone-elses","id":"x","version":"1.0.0","started":""}',
        stats("x").replace(b'{"busy":1,"most":200}', b'"free text"'),
        stats("x").replace(b'"state":"running"', b'"state":7'),
    ],
)
def test_what_is_none_of_ours_is_passed_over(watched: Watched, body: bytes) -> None:
    watched.heard(body)
    assert set(watched.replicas._known) == {"a"}


def test_what_a_newer_version_says_besides_is_ignored(watched: Watched) -> None:
    watched.heard(stats("b").replace(b'"state":"running"', b'"state":"running","mood":"good"'))
    assert watched.state("b") == READY


def test_while_the_broker_is_silent_nobody_is_lost_by_it(watched: Watched) -> None:
    watched.replicas.own = "me"
    watched.heard(stats("me", "gateway"))
    watched.asked(stats("me", "gateway"), stats("a"))
    for _ in range(700):  # longer than one that is lost is shown
        watched.asked()
    assert {one.id: one.state(watched.now) for one in watched.replicas.all()} == {"a": READY, "me": READY}
    watched.asked(stats("me", "gateway"))
    for _ in range(3):
        watched.asked(stats("me", "gateway"))
    assert (watched.state(later_s=0.3), watched.state("me")) == (LOST, READY)
