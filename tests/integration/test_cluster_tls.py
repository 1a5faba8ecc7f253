"""Three servers by the committed cluster-tls.conf: routes and services by TLS, and one of the servers lost."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from libs.client.broker import free_port
from libs.common import subjects
from libs.common.bus import Bus, connect
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, streams
from tests.authority import Authority
from tests.guarded import key
from tests.guarded_cluster import TlsCluster, tls_server
from tests.wait import wait_for


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


@pytest.fixture
async def cluster(tmp_path: Path, authority: Authority) -> AsyncIterator[TlsCluster]:
    async with TlsCluster(tmp_path, authority) as cluster:
        yield cluster


def known_as(user: str, cluster: TlsCluster, authority: Authority, folder: Path) -> Settings:
    certificate, secret = authority.issue(user)
    return Settings(
        nats_url=cluster.url,
        nats_nkey_file=key(folder, user),
        nats_ca_file=authority.ca_file,
        nats_cert_file=certificate,
        nats_key_file=secret,
    )


def log_of(cluster: TlsCluster) -> str:
    return "".join(broker.log.read_text() for broker in cluster.brokers)


async def test_a_record_is_written_and_read_by_tls_when_a_server_is_lost(
    cluster: TlsCluster, authority: Authority, tmp_path: Path, session: str
) -> None:
    three = streams(StreamSettings(stream_replicas=3))
    async with connect(known_as("streams", cluster, authority, tmp_path), "streams") as bus:
        await bus.api(
            f"STREAM.CREATE.{subjects.RESULTS}", next(one for one in three if one["name"] == subjects.RESULTS)
        )
    async with connect(known_as("gateway", cluster, authority, tmp_path), "gateway") as bus:
        await bus.publish(subjects.record(session, subjects.REQUEST), b"{}", create=True)
        await wait_for(partial(on_all, bus), "all three have it")
        leader = await cluster.leader(bus, subjects.RESULTS)
        next(broker for broker in cluster.brokers if broker is not leader).kill()
        await bus.publish(subjects.record(session, subjects.CANCEL), b"{}", create=True)
        found = await bus.read(subjects.RESULTS, subjects.records_of(session), 1, 10)
    assert [stored.subject for stored in found] == [
        subjects.record(session, subjects.REQUEST),
        subjects.record(session, subjects.CANCEL),
    ]
    assert not re.findall(
        ".*TLS route handshake error.*", log_of(cluster)
    )  # over and over, where they tell each other addresses


async def on_all(bus: Bus) -> bool:
    found = (await bus.api(f"STREAM.INFO.{subjects.RESULTS}"))["cluster"]
    return {found["leader"], *(peer["name"] for peer in found["replicas"] if peer["current"])} == {"n1", "n2", "n3"}


async def test_a_server_whose_certificate_is_of_another_authority_stays_outside(
    cluster: TlsCluster, tmp_path: Path
) -> None:
    port = free_port()
    other = Authority(tmp_path / "other")
    other.issue("tls", "127.0.1.4", "localhost")
    stranger = tls_server(tmp_path, other.folder, (*cluster.routes, f"127.0.1.4:{port}"), 4, port)
    stranger.start()  # it knows the password

    async def was_refused() -> bool:
        return "TLS route handshake error" in stranger.log.read_text()

    try:
        await wait_for(was_refused, "its route is refused", timeout_s=15)
    finally:
        stranger.stop()
    assert not any(f"{n}/pinstream" in stranger.log.read_text() for n in ("n1", "n2", "n3"))
